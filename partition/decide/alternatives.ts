/** What else could be done with the same devices, with its figures: nothing is split because splitting is what we are for. */

import { TandemError } from '../../common/errors.js';
import type { Graph } from '../graph/graph.js';
import type { DeviceSpec } from '../plan/device.js';
import type { Split } from '../request.js';
import { type DecideOptions, decide, oversized } from './decide.js';
import { type Decided, type MadeReport, makeReport } from './report.js';

export interface Alternative {
  /**
   * `tensor-parallel`: the plan itself. `single-device`: the whole model on the fastest device. `guidance-batch`: each rank has all
   * weights and computes its part of the batch, such as one half of classifier-free guidance (`--split batch`). `tokens`: each rank
   * has all weights and computes its part of the tokens or rows (`--split tokens`).
   */
  readonly name: 'tensor-parallel' | 'single-device' | 'guidance-batch' | 'tokens';
  readonly step_ms: number;
  /** Index is the rank; one entry for a single device. */
  readonly weight_bytes_per_rank: readonly number[];
  /** Of the rank with the most to send. */
  readonly wire_bytes_per_step: number;
  /** Whether weights and activations are within every rank's limit. */
  readonly fits: boolean;
  /** Of a single device: its place in the list of devices. */
  readonly rank?: number;
}

/** A plan with what could be done instead; the JSON keys are a contract. */
export interface PlanReport extends MadeReport {
  /** The plan itself and the other ways to use the same devices. */
  readonly alternatives: readonly Alternative[];
  /** The way that is faster than the plan itself; null where none is. */
  readonly recommended: Alternative | null;
  /** One line where another way is faster; null where none is. */
  readonly recommendation: string | null;
}

const describe = (name: Alternative['name'], report: MadeReport, fits: boolean): Alternative => ({
  name,
  step_ms: report.predicted.step_ms,
  weight_bytes_per_rank: report.ranks.map(({ weight_bytes }) => weight_bytes),
  wire_bytes_per_step: report.wire_bytes_per_step,
  fits,
});

/** The same without limits: what does not fit is told too, with its figures. */
const unlimited = ({ memoryLimit: _, ...device }: DeviceSpec): DeviceSpec => ({
  ...device,
  bufferLimit: Number.POSITIVE_INFINITY,
});

const fitsAll = (report: MadeReport, devices: readonly DeviceSpec[]): boolean =>
  report.ranks.every(
    ({ weight_bytes, activation_peak_bytes }, rank) =>
      weight_bytes + activation_peak_bytes <= (devices[rank]?.memoryLimit ?? Number.POSITIVE_INFINITY),
  );

const tryOut = (
  name: Alternative['name'],
  graph: Graph,
  devices: readonly DeviceSpec[],
  options: DecideOptions,
): Alternative => {
  const decided = decide(graph, { ...options, devices: devices.map(unlimited) });
  const report = makeReport(decided);
  const fits = oversized({ ...decided, devices }).length === 0;
  return describe(name, report, fits && fitsAll(report, devices));
};

const OWN_NAMES: Readonly<Record<Split, Alternative['name']>> = {
  tensor: 'tensor-parallel',
  batch: 'guidance-batch',
  tokens: 'tokens',
};

const fastest = (devices: readonly DeviceSpec[], graph: Graph, options: DecideOptions): Alternative | undefined =>
  devices
    .map((device) => ({
      ...tryOut('single-device', graph, [device], { ...options, split: 'tensor' }),
      rank: options.devices.indexOf(device),
    }))
    .sort((a, b) => Number(b.fits) - Number(a.fits) || a.step_ms - b.step_ms)
    .at(0);

/** Undefined where the batch has fewer parts than there are ranks. */
const guidanceBatch = (graph: Graph, options: DecideOptions): Alternative | undefined => {
  try {
    return tryOut('guidance-batch', graph, options.devices, { ...options, split: 'batch' });
  } catch (error) {
    if (error instanceof TandemError && error.code === 'PLAN_BATCH') return undefined;
    throw error;
  }
};

/** Devices that differ in nothing that a plan looks at need one look. */
const distinct = (devices: readonly DeviceSpec[]): readonly DeviceSpec[] => {
  const key = ({ provider, speed, rates, memoryLimit, bufferLimit }: DeviceSpec) =>
    JSON.stringify([provider, speed, rates, memoryLimit, bufferLimit]);
  return devices.filter((device, index) => devices.findIndex((other) => key(other) === key(device)) === index);
};

/** The plan and what could be done instead, the plan first. */
export const findAlternatives = (decided: Decided, options: DecideOptions): readonly Alternative[] => {
  const { model: graph, devices } = decided;
  const own = OWN_NAMES[options.split];
  if (devices.length === 1) return [describe('single-device', makeReport(decided), true)];
  const other =
    own === 'tensor-parallel'
      ? guidanceBatch(graph, options)
      : tryOut('tensor-parallel', graph, devices, { ...options, split: 'tensor' });
  return [
    describe(own, makeReport(decided), true),
    ...[fastest(distinct(devices), graph, options), other].filter((one) => one !== undefined),
  ];
};

/** A step must be this much shorter to be worth a change. */
const CLEARLY = 0.97;

const ADVICE: Readonly<Record<Alternative['name'], string>> = {
  'tensor-parallel': 'Split the tensors',
  'single-device': 'Do not split',
  'guidance-batch': 'Split the guidance batch instead (--split batch)',
  tokens: 'Split the tokens instead (--split tokens)',
};

/** Another plan that fits and is faster; undefined where none is. */
export const findFaster = ([own, ...others]: readonly Alternative[]): Alternative | undefined => {
  const [best] = others.filter(({ fits }) => fits).sort((a, b) => a.step_ms - b.step_ms);
  return own && best && best.step_ms <= CLEARLY * own.step_ms ? best : undefined;
};

/** One line where another plan that fits is faster; undefined where none is. */
export const recommend = (alternatives: readonly Alternative[]): string | undefined => {
  const [own] = alternatives;
  const best = findFaster(alternatives);
  if (!own || !best) return undefined;
  const times = (own.step_ms / best.step_ms).toFixed(2);
  const weights = (Math.max(...best.weight_bytes_per_rank) / Math.max(1, ...own.weight_bytes_per_rank)).toFixed(1);
  return `${ADVICE[best.name]}: a step is ${times} times as fast, with ${weights} times the weights on a device.`;
};
