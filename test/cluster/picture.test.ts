import { afterAll, beforeAll, expect, it } from 'vitest';
import type { Cluster } from '#tandem/coordinator/cluster/index.js';
import { type ClusterConfig, readClusterConfig } from '#tandem/coordinator/config/index.js';
import { type Picture, planPicture } from '#tandem/coordinator/generate/picture.js';
import { createPipeline, type GeneratedImage, type Pipeline } from '#tandem/coordinator/pipeline/index.js';
import { type PreparedShards, prepareShards } from '#tandem/coordinator/shards/prepare.js';
import { denoiserRequest } from '#tandem/coordinator/shards/request.js';
import { startCluster } from '#tandem/coordinator/start-cluster.js';

const STEPS = 6;

let config: ClusterConfig;
let picture: Picture;
let shards: PreparedShards;
let cluster: Cluster;
let pipeline: Pipeline;

beforeAll(async () => {
  config = await readClusterConfig('configs/dual-cpu.yaml');
  picture = await planPicture(config);
  shards = await prepareShards(denoiserRequest(config, picture));
  const restart = { maxAttempts: 2, backoffMs: 10, capMs: 100 };
  ({ cluster } = await startCluster(
    { shards, networks: [] },
    { ...config, timeouts: { ...config.timeouts, heartbeatMs: 700 } },
    {},
    { restart },
  ));
  pipeline = await createPipeline({ directory: picture.directory, denoiser: cluster.network() });
});

afterAll(async () => {
  await pipeline?.close();
  await cluster?.close();
});

/** The same picture every time; `strike` is called at the start of step 3 and may then wait. */
const paint = (strike: (stepMs: number) => void = () => undefined): Promise<GeneratedImage> =>
  pipeline.generateImage({
    prompt: 'a red circle',
    seed: 7,
    numInferenceSteps: STEPS,
    guidanceScale: picture.guidanceScale,
    onStep: ({ step, step_ms }) => {
      if (step === 3) strike(step_ms);
    },
  });

const killBoth = (): void => {
  for (const rank of [0, 1]) signal(rank, 'SIGKILL');
};

const signal = (rank: number, name: NodeJS.Signals): void => {
  process.kill(cluster.workers[rank]?.pid ?? 0, name);
};

it('resumes the image at the step that was lost: the picture is the same to the last bit', async () => {
  const expected = await paint();
  const strikes: readonly ((stepMs: number) => void)[] = [
    // Between two steps; in the middle of one; stopped instead of dead; both workers.
    () => signal(1, 'SIGKILL'),
    (stepMs) => void setTimeout(() => signal(0, 'SIGKILL'), stepMs / 2),
    (stepMs) => void setTimeout(() => signal(1, 'SIGSTOP'), stepMs / 2),
    (stepMs) => void setTimeout(killBoth, stepMs / 2),
  ];
  let restarts = 0;
  for (const [index, strike] of strikes.entries()) {
    const found = await paint(strike);
    expect(Buffer.compare(Buffer.from(found.latents.data.buffer), Buffer.from(expected.latents.data.buffer))).toBe(0);
    expect(found.image).toEqual(expected.image);
    restarts += index === strikes.length - 1 ? config.devices.length : 1;
    expect(cluster.restarts).toBe(restarts);
  }
});
