/** What an exchange costs: two real workers pass tensors of several sizes to and fro. */
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { HostTensor } from '../../common/tensor.js';
import { TOOL_VERSION } from '../../common/version.js';
import { type ProbeShape, writeProbe } from '../../partition/calibrate/probe.js';
import type { Hooks } from '../hooks.js';
import { type WorkerSettings, withCluster } from '../start-cluster.js';

/** What exchanges cost, beside the segments' own operators. */
export interface ExchangeRates {
  readonly latencyMs: number;
  readonly wireBytesPerMs: number;
  /** Of a step, beside its exchanges. */
  readonly stepMs: number;
}

/** From what a time embedding sends to what the largest feature maps do. */
const PROBES: readonly ProbeShape[] = [
  { elements: 256, exchanges: 24 },
  { elements: 64 * 1024, exchanges: 24 },
  { elements: 1024 * 1024, exchanges: 12 },
];
/** Steps of each: until the budget is spent, but not fewer than the least. The shortest counts. */
const MOST_STEPS = 25;
const LEAST_STEPS = 5;
const BUDGET_MS = 1500;

interface Timed extends ProbeShape {
  /** Of a step, without what its operators took. */
  readonly ms: number;
  /** Of that, what no worker saw: the way from the coordinator and back. */
  readonly controlMs: number;
}

const zeros = (elements: number): HostTensor => ({
  dtype: 'float32',
  shape: [elements],
  data: new Uint8Array(4 * elements),
});

/** `auto` loads the probe's few bytes as the file system likes. */
type Probed = Omit<WorkerSettings, 'loader'>;

const timeProbe = async (shape: ProbeShape, settings: Probed, hooks: Hooks): Promise<Timed> => {
  const directory = await mkdtemp(join(tmpdir(), 'tandem-probe-'));
  try {
    const manifest = await writeProbe(join(directory, 'shards'), shape, TOOL_VERSION);
    const [profile] = manifest.profiles;
    if (!profile) throw new RangeError('A probe has one profile.');
    const shards = { directory: join(directory, 'shards'), manifest, profile, partitionMs: 0 };
    const { signal } = hooks;
    return await withCluster(
      { shards, networks: [] },
      { ...settings, loader: 'auto' },
      { ...(signal ? { signal } : {}) },
      async ({ cluster }) => {
        const inputs = { x: zeros(shape.elements) };
        let best: Timed | undefined;
        const begun = performance.now();
        const isSpent = (steps: number) => steps >= LEAST_STEPS && performance.now() - begun > BUDGET_MS;
        for (let step = 0; step < MOST_STEPS && !isSpent(step); step++) {
          const start = performance.now();
          const { ranks } = await cluster.step([inputs]);
          const wall = performance.now() - start;
          const times = ranks.map(({ times: one }) => one);
          const total = Math.max(...times.map(({ total_ms }) => total_ms));
          const ms = total - Math.max(...times.map(({ compute_ms }) => compute_ms));
          // The first one opens sockets and memory.
          if (step > 0 && (!best || ms < best.ms)) best = { ...shape, ms, controlMs: Math.max(0, wall - total) };
        }
        if (!best) throw new RangeError('A probe takes several steps.');
        return best;
      },
    );
  } finally {
    await rm(directory, { recursive: true, force: true });
  }
};

/** The line through the probes' times per exchange, over its bytes, that is least wrong relatively. */
export const fitExchange = (timed: readonly Timed[]): ExchangeRates => {
  const points = timed.map(({ elements, exchanges, ms }) => ({ bytes: 4 * elements, ms: ms / exchanges }));
  const sum = (of: (point: (typeof points)[number]) => number) => points.reduce((total, point) => total + of(point), 0);
  const [w, wx, wxx, wy, wxy] = [
    sum(({ ms }) => 1 / ms ** 2),
    sum(({ bytes, ms }) => bytes / ms ** 2),
    sum(({ bytes, ms }) => bytes ** 2 / ms ** 2),
    sum(({ ms }) => 1 / ms),
    sum(({ bytes, ms }) => bytes / ms),
  ];
  const perByte = Math.max(1e-9, (w * wxy - wx * wy) / (w * wxx - wx ** 2));
  return {
    latencyMs: Math.max(0, (wy - perByte * wx) / w),
    wireBytesPerMs: 1 / perByte,
    stepMs: Math.min(...timed.map(({ controlMs }) => controlMs)),
  };
};

/**
 * Measures exchanges between two workers on these devices over the cluster's transport.
 * @throws TandemError as `launchCluster` does; no process is left behind
 */
export const measureExchange = async (settings: Probed, hooks: Hooks): Promise<ExchangeRates> => {
  const timed: Timed[] = [];
  for (const [index, shape] of PROBES.entries()) {
    hooks.onProgress?.('exchange', index, PROBES.length);
    timed.push(await timeProbe(shape, settings, hooks));
  }
  return fitExchange(timed);
};
