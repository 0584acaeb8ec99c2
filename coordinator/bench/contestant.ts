/** What takes part in a benchmark: a cluster of workers, or the whole model in one session. */

import type { TensorSpec } from '../../common/tensor.js';
import type { PlanReport } from '../../partition/index.js';
import type { StepTimes } from '../../shard-worker/protocol.js';
import type { ClusterConfig, ClusterSettings, DeviceConfig } from '../config/index.js';
import { reportWorkers, type WorkerReport } from '../generate/generate.js';
import type { Hooks, StepTrace } from '../hooks.js';
import { openPlainModel } from '../plain/index.js';
import type { PreparedShards } from '../shards/prepare.js';
import type { OpenedModel } from '../shards/request.js';
import { prepareModel, type ReadyModel, startCluster } from '../start-cluster.js';
import { randomInputs } from '../verify/random-inputs.js';

/** One side of the comparison, before it runs. */
export interface BenchRun extends ClusterSettings, OpenedModel {
  readonly name: string;
  /** How often a step runs the network, all under way at once, as guidance does in two passes; 1 where absent. */
  readonly microBatches?: number;
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
  /** One step on the same inputs as everyone; resolves to what each rank spent its time on. */
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
export const prepareRuns = async (runs: readonly BenchRun[], hooks: Hooks): Promise<readonly ReadyModel[]> => {
  const ready: ReadyModel[] = [];
  for (const run of runs) ready.push(await prepareModel(run, { ...run, networks: [] }, hooks));
  return ready;
};

/** Starts a run's workers. */
export const openCluster = async (
  run: BenchRun,
  ready: ReadyModel,
  predicted: PlanReport['predicted'],
  seed: number,
  hooks: Hooks,
): Promise<Contestant> => {
  const { onStepTrace } = hooks;
  const told = onStepTrace && { onStepTrace: (step: StepTrace) => onStepTrace({ ...step, group: run.name }) };
  const { cluster, loadMs } = await startCluster(ready, run, { ...hooks, ...told });
  const microBatches = inputsOf(cluster.inputs, run, seed);
  return {
    name: run.name,
    worldSize: run.devices.length,
    threads: totalThreads(run.devices),
    loadMs,
    wireBytesPerStep: ready.shards.profile.wire_bytes_per_step * microBatches.length,
    predicted: ofMicroBatches(predicted, microBatches.length),
    step: async () => (await cluster.stepAll(microBatches)).ranks.map(({ times }) => times),
    workers: () => reportWorkers(cluster),
    close: () => cluster.close(),
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
  shards: PreparedShards,
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
  const microBatches = inputsOf(shards.profile.inputs, plain.run, seed);
  return {
    name: 'plain',
    worldSize: 1,
    threads: plain.threads,
    loadMs: model.loadMs,
    wireBytesPerStep: 0,
    predicted: null,
    step: async () => {
      let computeMs = 0;
      for (const inputs of microBatches) computeMs += (await model.step(inputs, { wantOutputs: true })).computeMs;
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
