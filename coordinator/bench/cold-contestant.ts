/** One side of a race to the first result: its files, and how it is started. */
import type { HostTensor, TensorSpec } from '../../common/tensor.js';
import { type Denoiser, oneAfterAnother } from '../denoiser.js';
import type { Hooks } from '../hooks.js';
import { filesOf, networkOf, type ReadyMesh, startMesh } from '../mesh/index.js';
import { createPipeline, type ImageRequest, type SchedulerName } from '../pipeline/index.js';
import { openPlainModel } from '../plain/index.js';
import { modelFacts } from '../shards/model-facts.js';
import type { PreparedShards } from '../shards/prepare.js';
import type { ColdStart } from './cold-report.js';
import { type BenchRun, totalThreads } from './contestant.js';
import { LoadPhases } from './load-phases.js';

type Inputs = Readonly<Record<string, HostTensor>>;

/** The picture that a config makes where nothing else is asked of it. */
export interface ColdPicture {
  /** The diffusers-layout directory, absolute. */
  readonly directory: string;
  readonly request: ImageRequest;
  readonly scheduler?: SchedulerName;
}

export interface ColdRun extends BenchRun {
  /** Absent for a bare denoiser. */
  readonly picture?: ColdPicture;
}

/** One that is loaded. */
export interface Started {
  readonly phases: Omit<ColdStart['phases_ms'], 'warm_up'>;
  readonly denoiser: Denoiser;
  pids(): readonly number[];
  privateBytes(): number;
  close(): Promise<void>;
}

/** One that can be started again and again. */
export interface ColdContestant {
  readonly name: string;
  readonly worldSize: number;
  readonly threads: number;
  /** Absolute paths of what a start reads. */
  readonly files: readonly string[];
  readonly inputs: readonly TensorSpec[];
  readonly picture: ColdPicture | undefined;
  start(): Promise<Started>;
}

export const clusterContestant = (run: ColdRun, ready: ReadyMesh, hooks: Hooks): ColdContestant => ({
  name: run.name,
  worldSize: run.devices.length,
  threads: totalThreads(run.devices),
  files: filesOf(ready),
  inputs: networkOf(ready).inputs,
  picture: run.picture,
  start: async () => {
    const phases = new LoadPhases();
    const onProgress = (stage: string, done: number, total: number): void => phases.add(stage, done, total);
    const { workers } = await startMesh(ready, run, { ...hooks, onProgress });
    return {
      phases: phases.summary(),
      denoiser: workers.network(),
      pids: () => workers.workers.map(({ pid }) => pid),
      privateBytes: () => workers.workers.reduce((sum, { memory }) => sum + memory.private_bytes, 0),
      close: () => workers.close(),
    };
  },
});

export const plainContestant = async (run: ColdRun, shards: PreparedShards, hooks: Hooks): Promise<ColdContestant> => {
  const { inputs, outputs } = shards.profile;
  const threads = totalThreads(run.devices);
  const [device] = run.devices;
  return {
    name: 'plain',
    worldSize: 1,
    threads,
    files: (await modelFacts(run.model.path, run.shards)).files.map(({ path }) => path),
    inputs,
    picture: run.picture,
    start: async () => {
      const model = await openPlainModel({
        model: run.model.path,
        provider: device?.provider ?? 'cpu',
        deviceId: device?.deviceId ?? 0,
        threads,
        timeouts: run.timeouts,
        ...(hooks.signal ? { signal: hooks.signal } : {}),
      });
      const step = async (given: Inputs) => ({ ...(await model.step(given, { wantOutputs: true })).outputs });
      return {
        phases: { process: model.startMs, read: null, session: model.loadMs - model.startMs },
        denoiser: { inputs, outputs, step, stepEach: oneAfterAnother(step) },
        pids: () => [model.pid],
        privateBytes: () => model.memory().private_bytes,
        close: () => model.close(),
      };
    },
  };
};

/** A picture from whatever denoises; the text encoder and the VAE are loaded for it. */
export const drawPicture = async (
  { directory, request, scheduler }: ColdPicture,
  denoiser: Denoiser,
): Promise<void> => {
  const { width, height } = request;
  const pipeline = await createPipeline({
    directory,
    denoiser,
    ...(width === undefined || height === undefined ? {} : { size: { width, height } }),
    ...(scheduler === undefined ? {} : { scheduler }),
  });
  try {
    await pipeline.generateImage(request);
  } finally {
    await pipeline.close();
  }
};
