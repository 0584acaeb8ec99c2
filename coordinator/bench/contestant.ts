/** What takes part in a benchmark: a cluster of workers, or the whole model in one session. */

import type { TensorSpec } from '../../common/tensor.js';
import { type PlanReport, plan, planMeshes } from '../../partition/index.js';
import type { StepTimes } from '../../shard-worker/protocol.js';
import type { ClusterConfig, ClusterSettings, DeviceConfig } from '../config/index.js';
import { reportWorkers, type WorkerReport } from '../generate/generate.js';
import type { Hooks, StepTrace } from '../hooks.js';
import { networkOf, prepareMesh, type ReadyMesh, startMesh } from '../mesh/index.js';
import { openPlainModel } from '../plain/index.js';
import { isOneGroup } from '../shards/mesh-plan.js';
import { denoiserRequest, type OpenedModel } from '../shards/request.js';
import { randomInputs } from '../verify/random-inputs.js';

/** One side of the comparison, before it runs. */
export interface BenchRun extends ClusterSettings, OpenedModel {
  readonly name: string;
  /** How often a step runs the network, all under way at once, as guidance does in two passes; 1 where absent. */
  readonly microBatches?: number;
  /** How many pictures are made at once, whose steps are counted together; 1 where absent. */
  readonly concurrency?: number;
}

/** One that is loaded and ready to step. */
export interface Contestant {
  readonly name: string;
  readonly worldSize: number;
  readonly threads: number;
  readonly loadMs: number;
  readonly wireBytesPerStep: number;
  /** As planned; null where nothing was. */
  readonly predicted: PlanReport['predicted'] | null;
  /** How many steps a call of `step` makes. */
  readonly steps: number;
  /** A step, or one of each of the pictures made at once, several times; on the same inputs as everyone. Resolves to what each rank spent its time on. */
  step(): Promise<readonly (Pick<StepTimes, 'total_ms' | 'compute_ms' | 'exchange_ms'> & Partial<StepTimes>)[]>;
  workers(): readonly WorkerReport[];
  close(): Promise<void>;
}

export const totalThreads = (devices: readonly DeviceConfig[]): number =>
  devices.reduce((sum, { threads }) => sum + threads, 0);

const inputsOf = (specs: readonly TensorSpec[], { microBatches = 1 }: BenchRun, seed: number) =>
  Array.from({ length: microBatches }, (_, index) => randomInputs(specs, seed + index));

/** Where micro-batches are under way at once, the longer of computing and exchanging hides the shorter, but for one micro-batch's. */
const ofMicroBatches = (predicted: PlanReport['predicted'], count: number): PlanReport['predicted'] => {
  const { single_step_ms, step_ms, compute_ms, exchange_ms } = predicted;
  const more = (count - 1) * Math.max(compute_ms, exchange_ms);
  const single = single_step_ms * count;
  return {
    ...predicted,
    single_step_ms: single,
    step_ms: step_ms + more,
    speedup: single / (step_ms + more),
    compute_ms: compute_ms * count,
    exchange_ms: step_ms + more - compute_ms * count,
  };
};

/** The shards of all runs, made one after the other. */
export const prepareRuns = async (runs: readonly BenchRun[], hooks: Hooks): Promise<readonly ReadyMesh[]> => {
  const ready: ReadyMesh[] = [];
  for (const run of runs) ready.push(await prepareMesh(run, { ...run, networks: [] }, hooks));
  return ready;
};

/** Steps in a row that each of the pictures made at once takes in a measurement: long enough for all stages to be at work. */
const STEPS_IN_A_ROW = 4;

const stepsOf = ({ concurrency = 1 }: BenchRun): number => (concurrency === 1 ? 1 : concurrency * STEPS_IN_A_ROW);

/** Of several groups of devices: one picture's step, or each one's of several. */
const predictMesh = async (run: BenchRun): Promise<PlanReport['predicted'] | null> => {
  const { microBatches = 1, concurrency = 1, dims, mesh } = run;
  const apart = microBatches === 1 ? {} : { apart: dims };
  const costs = await planMeshes({ ...denoiserRequest(run, run), ...apart, concurrency });
  const own = costs.find(({ shape }) => JSON.stringify(shape) === JSON.stringify(mesh));
  const single = costs.find(({ devices }) => devices.length === 1);
  if (own === undefined || single === undefined) return null;
  const ms = concurrency === 1 ? own.latency_step_ms : own.throughput_step_ms;
  const single_step_ms = single.latency_step_ms * microBatches;
  const calibrated = run.devices.every(({ rates }) => rates !== undefined);
  return { single_step_ms, step_ms: ms, speedup: single_step_ms / ms, compute_ms: ms, exchange_ms: 0, calibrated };
};

/** What the plan says of a run's step. */
export const predict = async (run: BenchRun): Promise<PlanReport['predicted'] | null> =>
  isOneGroup(run)
    ? ofMicroBatches((await plan(denoiserRequest(run, run))).predicted, run.microBatches ?? 1)
    : predictMesh(run);

/** The model's inputs, whichever groups have it. */
export const inputsOfMesh = (ready: ReadyMesh): readonly TensorSpec[] => networkOf(ready).inputs;

/** Starts a run's workers. */
export const openCluster = async (
  run: BenchRun,
  ready: ReadyMesh,
  predicted: PlanReport['predicted'] | null,
  seed: number,
  hooks: Hooks,
): Promise<Contestant> => {
  const { onStepTrace } = hooks;
  const told = onStepTrace && { onStepTrace: (step: StepTrace) => onStepTrace({ ...step, group: run.name }) };
  const { workers, loadMs } = await startMesh(ready, run, { ...hooks, ...told });
  const microBatches = inputsOf(workers.network().inputs, run, seed);
  const stepOnce = async () => (await workers.step(microBatches)).ranks.map(({ times }) => times);
  const steps = stepsOf(run);
  const picture = async () => {
    for (let step = 1; step < STEPS_IN_A_ROW; step++) await stepOnce();
    return stepOnce();
  };
  return {
    name: run.name,
    worldSize: run.devices.length,
    threads: totalThreads(run.devices),
    loadMs,
    wireBytesPerStep: ready.shards.profile.wire_bytes_per_step * microBatches.length,
    predicted,
    steps,
    step: async () =>
      steps === 1 ? stepOnce() : (await Promise.all(Array.from({ length: run.concurrency ?? 1 }, picture))).flat(),
    workers: () => reportWorkers(workers),
    close: () => workers.close(),
  };
};

export interface PlainRun {
  readonly run: BenchRun;
  readonly threads: number;
  readonly weightBytes: number;
  readonly timeouts: ClusterConfig['timeouts'];
}

/** Opens the plain alternative: no Tandem, one ONNX Runtime session with as many threads as the workers have together. */
export const openPlain = async (
  plain: PlainRun,
  specs: readonly TensorSpec[],
  seed: number,
  hooks: Hooks,
): Promise<Contestant> => {
  const device = plain.run.devices[0];
  const model = await openPlainModel({
    model: plain.run.model.path,
    provider: device?.provider ?? 'cpu',
    deviceId: device?.deviceId ?? 0,
    threads: plain.threads,
    timeouts: plain.timeouts,
    ...(hooks.signal ? { signal: hooks.signal } : {}),
  });
  const microBatches = inputsOf(specs, plain.run, seed);
  const steps = stepsOf(plain.run);
  return {
    name: 'plain',
    worldSize: 1,
    threads: plain.threads,
    loadMs: model.loadMs,
    wireBytesPerStep: 0,
    predicted: null,
    steps,
    step: async () => {
      let computeMs = 0;
      for (const inputs of Array.from({ length: steps }, () => microBatches).flat())
        computeMs += (await model.step(inputs, { wantOutputs: true })).computeMs;
      return [{ total_ms: computeMs, compute_ms: computeMs, exchange_ms: 0 }];
    },
    workers: () => [
      {
        rank: 0,
        pid: model.pid,
        weight_bytes: plain.weightBytes,
        peak_private_bytes: model.memory().peak_private_bytes,
        mapped_bytes: model.memory().mapped_bytes,
      },
    ],
    close: () => model.close(),
  };
};
