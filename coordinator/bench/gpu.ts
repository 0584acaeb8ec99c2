/**
 * What a graphics card gains by Tandem, on one page: the model in a plain ONNX Runtime session on the device, on one worker and on two,
 * one after the other so that each has the card for itself. For machines on which nothing else of this project is installed,
 * `install/gpu-kit.mjs` packs it with all that it needs into one folder.
 */
import { join } from 'node:path';
import type { Provider } from '../../common/onnxruntime.js';
import { parseClusterConfig } from '../config/index.js';
import type { Hooks } from '../hooks.js';
import { prepareMesh } from '../mesh/index.js';
import type { Dims } from '../shards/dims.js';
import { findDenoiserModel } from '../shards/model.js';

import { type BenchRun, type Contestant, inputsOfMesh, openCluster, openPlain } from './contestant.js';

export interface GpuRequest extends Hooks {
  /** An `.onnx` file or a model directory, and what the table calls it. */
  readonly model: string;
  readonly name: string;
  readonly dims: Dims;
  readonly provider: Provider;
  /** Of the second worker; with 0 it shares the first one's device. */
  readonly secondDevice: number;
  /** Measured after the first, which compiles. */
  readonly steps: number;
  /** Where shards are kept. */
  readonly root: string;
}

/** Times are ms, sizes bytes; medians over steps, of the slowest rank. */
export interface GpuRow {
  readonly model: string;
  readonly run: string;
  readonly load_ms: number;
  /** From the first process's start to the first step's end. */
  readonly first_step_ms: number;
  readonly step_ms: number;
  readonly exchange_ms: number;
  readonly copied_bytes: number;
  readonly sent_bytes: number;
  /** Of all processes, in the host's memory. */
  readonly memory_bytes: number;
  /** Why there are no figures. */
  readonly problem: string | null;
}

const NOTHING = {
  ...{ load_ms: 0, first_step_ms: 0, step_ms: 0, exchange_ms: 0 },
  ...{ copied_bytes: 0, sent_bytes: 0, memory_bytes: 0 },
};

const median = (values: readonly number[]): number => values.toSorted((a, b) => a - b)[values.length >> 1] ?? 0;

const runOf = (request: GpuRequest, name: string, deviceIds: readonly number[], wire: 'fp32' | 'fp16'): BenchRun => {
  const { root, provider, model, dims } = request;
  const devices = deviceIds.map((id) => `  - { provider: ${provider}, device_id: ${id} }`);
  const lines = [`model: ${JSON.stringify(model)}`, `shards: ${JSON.stringify(root)}`, 'devices:', ...devices];
  const config = [
    ...lines,
    `wire: { dtype: ${wire} }`,
    'timeouts: { load_s: 3000, step_s: 3000, heartbeat_s: 60 }',
    '',
  ];
  const cluster = parseClusterConfig(config.join('\n'), join(root, 'gpu.yaml'));
  return { ...cluster, name, model: findDenoiserModel(model), dims };
};

type Times = Awaited<ReturnType<Contestant['step']>>[number];

const measure = async ({ name, steps }: GpuRequest, opened: Contestant): Promise<GpuRow> => {
  const walls: number[] = [];
  let times: readonly Times[] = [];
  for (let step = 0; step <= steps; step++) {
    const start = performance.now();
    times = await opened.step();
    walls.push(performance.now() - start);
  }
  const most = (of: (one: Times) => number): number => Math.max(0, ...times.map(of));
  const [first = 0, ...rest] = walls;
  return {
    ...{ model: name, run: opened.name, load_ms: opened.loadMs, first_step_ms: opened.loadMs + first },
    ...{ step_ms: median(rest), exchange_ms: most(({ exchange_ms }) => exchange_ms) },
    copied_bytes: most(({ copied_bytes = 0 }) => copied_bytes),
    sent_bytes: most(({ sent_bytes = 0 }) => sent_bytes),
    memory_bytes: opened.workers().reduce((sum, { peak_private_bytes }) => sum + peak_private_bytes, 0),
    problem: null,
  };
};

const PREDICTED_NOTHING = {
  ...{ single_step_ms: 0, step_ms: 0, speedup: 0, compute_ms: 0, exchange_ms: 0 },
  calibrated: false,
};

const open = async (request: GpuRequest, run: BenchRun, isPlain: boolean): Promise<Contestant> => {
  const ready = await prepareMesh(run, { ...run, networks: [] }, request);
  if (!isPlain) return openCluster(run, ready, PREDICTED_NOTHING, 0, request);
  return openPlain({ run, threads: 1, weightBytes: 0, timeouts: run.timeouts }, inputsOfMesh(ready), 0, request);
};

/** A run that cannot be had on this device is a row that says why; the others go on. */
const row = async (request: GpuRequest, run: BenchRun, isPlain: boolean): Promise<GpuRow> => {
  try {
    const opened = await open(request, run, isPlain);
    try {
      return await measure(request, opened);
    } finally {
      await opened.close();
    }
  } catch (error) {
    request.signal?.throwIfAborted();
    const problem = error instanceof Error ? error.message : String(error);
    return { model: request.name, run: run.name, ...NOTHING, problem };
  }
};

/** Measures the runs one after the other. */
export const measureGpu = async (request: GpuRequest): Promise<readonly GpuRow[]> => {
  const two = [0, request.secondDevice];
  const one = runOf(request, 'one worker', [0], 'fp32');
  return [
    await row(request, { ...one, name: 'plain session' }, true),
    await row(request, one, false),
    await row(request, runOf(request, 'two workers', two, 'fp32'), false),
    await row(request, runOf(request, 'two workers, fp16 wire', two, 'fp16'), false),
  ];
};
