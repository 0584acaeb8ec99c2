/**
 * What several pictures at once gain on groups of devices: `npm run measure -- mesh`. MODEL (a denoiser's `.onnx` file) and DIMS (JSON)
 * in the environment measure another model than the shipped one.
 *
 * Each way has one thread a worker. A sample is REQUESTS loops at once of STEPS guided steps each (two runs of the network); the ways take
 * turns. "2 threads" is one worker with both threads: what two hardware threads of one core can give at all.
 */
import { it } from 'vitest';
import { DEFAULT_TIMEOUTS } from '#tandem/coordinator/cluster/index.js';
import { defaultCalibrationFile, defaultShardsDirectory } from '#tandem/coordinator/config/index.js';
import { prepareMesh, type StartedMesh, startMesh } from '#tandem/coordinator/mesh/index.js';
import { findDenoiserModel } from '#tandem/coordinator/shards/model.js';
import { randomInputs } from '#tandem/coordinator/verify/random-inputs.js';

const MODEL = process.env.MODEL ?? 'models/emoji-sd/unet/model.onnx';
const DIMS = JSON.parse(process.env.DIMS ?? '{"batch_size":1,"height":32,"width":32,"sequence_length":16}');
const REQUESTS = Number(process.env.REQUESTS ?? 4);
const STEPS = Number(process.env.STEPS ?? 6);
const ROUNDS = Number(process.env.ROUNDS ?? 5);
const PASSES = 2;

const ONE = { tensor: 1, tokens: 1, guidance: 1, pipeline: 1, replicas: 1 };
const WAYS = [
  { name: 'one worker', mesh: ONE, threads: 1 },
  { name: '2 threads', mesh: ONE, threads: 2 },
  { name: 'pipeline 2', mesh: { ...ONE, pipeline: 2 }, threads: 1 },
  { name: 'guidance 2', mesh: { ...ONE, guidance: 2 }, threads: 1 },
  { name: 'replicas 2', mesh: { ...ONE, replicas: 2 }, threads: 1 },
  { name: 'tensor 2', mesh: { ...ONE, tensor: 2 }, threads: 1 },
] as const;

const settingsOf = ({ mesh, threads }: (typeof WAYS)[number]) => ({
  devices: Array.from({ length: mesh.tensor * mesh.guidance * mesh.pipeline * mesh.replicas }, () => ({
    provider: 'cpu' as const,
    deviceId: 0,
    threads,
  })),
  wire: { dtype: 'fp32' as const, transport: 'auto' as const },
  quantize: 'none' as const,
  split: 'tensor' as const,
  placement: {},
  loader: 'auto' as const,
  shards: defaultShardsDirectory(),
  calibration: defaultCalibrationFile(),
  timeouts: DEFAULT_TIMEOUTS,
  mesh,
});

/** ms a step */
const sample = async ({ workers }: StartedMesh): Promise<number> => {
  const network = workers.network();
  const runs = Array.from({ length: PASSES }, (_, seed) => randomInputs(network.inputs, seed));
  const loop = async (): Promise<void> => {
    for (let step = 0; step < STEPS; step++) await network.stepEach(runs);
  };
  const start = performance.now();
  await Promise.all(Array.from({ length: REQUESTS }, loop));
  return (performance.now() - start) / (REQUESTS * STEPS);
};

const median = (values: readonly number[]): number =>
  values.toSorted((a, b) => a - b)[values.length >> 1] ?? Number.NaN;

it('measures the ways to use two devices', { timeout: 3_600_000 }, async () => {
  const model = findDenoiserModel(MODEL);
  const started: StartedMesh[] = [];
  for (const way of WAYS) {
    const settings = settingsOf(way);
    started.push(await startMesh(await prepareMesh(settings, { model, dims: DIMS, networks: [] }, {}), settings, {}));
  }
  const times = WAYS.map((): number[] => []);
  for (const one of started) await sample(one);
  for (let round = 0; round < ROUNDS; round++)
    for (const [index, one] of started.entries()) times[index]?.push(await sample(one));
  const base = median(times[0] ?? []);
  const whole = Math.max(...(started[0]?.workers.workers.map(({ weight_bytes }) => weight_bytes) ?? [1]));
  for (const [index, { name }] of WAYS.entries()) {
    const ms = median(times[index] ?? []);
    const weights =
      Math.max(...(started[index]?.workers.workers.map(({ weight_bytes }) => weight_bytes) ?? [0])) / whole;
    console.log(
      `${name.padEnd(12)} ${ms.toFixed(2)} ms a step with ${REQUESTS} requests, ${(base / ms).toFixed(2)} times one worker's throughput, ${weights.toFixed(2)} of the weights a rank`,
    );
  }
  await Promise.all(started.map(({ workers }) => workers.close()));
});
