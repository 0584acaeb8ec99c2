/**
 * What each way to use the devices costs, for two aims: the time of one picture's step, and the time per step where several pictures
 * are made at once. A step is all that one picture needs of the model once: with guidance two passes.
 */
import { TandemError } from '../../common/errors.js';
import type { Opened } from '../open.js';
import type { DeviceSpec } from '../plan/device.js';
import type { Split } from '../request.js';
import { type GroupCost, groupCost } from './groups.js';
import { type MeshShape, PASSES, runsPassesApart, shapesOf, sides, splitOf } from './shape.js';

/** One way to use the devices; the JSON keys are a contract. */
export interface MeshCost {
  readonly shape: MeshShape;
  /** Of one picture alone; ms. */
  readonly latency_step_ms: number;
  /** Of all pictures together: the time of the server's work per step; ms. */
  readonly throughput_step_ms: number;
  /** Of the rank with the most. */
  readonly weight_bytes: number;
  /** Of a run, by the rank with the most to send, and by way of the coordinator between stages. */
  readonly wire_bytes: number;
  readonly fits: boolean;
  /** The devices that are used, by their place in the list: all of them, or the one that does it alone. */
  readonly devices: readonly number[];
}

/** How the model can be opened. */
export interface Openings {
  /** Both passes of guidance as one batch, or the only pass that there is. */
  readonly together: Opened;
  /** For one pass at a time; absent where a step has one pass anyway, or the model's batch is fixed. */
  readonly apart?: Opened;
}

const sum = (numbers: readonly number[]): number => numbers.reduce((total, number) => total + number, 0);

/** Time of one picture's runs: they are dealt out, and those of one group follow each other closely. */
const latencyMs = (groups: readonly GroupCost[], runs: number): number => {
  const used = groups.slice(0, runs);
  const each = Math.ceil(runs / Math.max(1, used.length));
  return Math.max(...used.map(({ stageMs }) => sum(stageMs) + (each - 1) * Math.max(...stageMs)));
};

/** Runs in a ms when so many are under way in a group: its slowest stage is busy all the time, or all stages wait for work. */
const runsPerMs = ({ stageMs }: GroupCost, underWay: number): number =>
  Math.min(1 / Math.max(...stageMs), underWay / sum(stageMs));

const fits = (groups: readonly GroupCost[], devices: readonly DeviceSpec[]): boolean =>
  groups
    .flatMap(({ ranks }) => ranks)
    .every(
      ({ weight_bytes, activation_peak_bytes }, rank) =>
        weight_bytes + activation_peak_bytes <= (devices[rank]?.memoryLimit ?? Number.POSITIVE_INFINITY),
    );

/** What a plan looks at. */
const key = ({ provider, speed, rates, memoryLimit }: DeviceSpec): string =>
  JSON.stringify([provider, speed, rates, memoryLimit]);

/** Groups of equal devices cost the same. */
const remembering = (openings: Openings) => {
  const known = new Map<string, GroupCost | undefined>();
  return (apart: boolean, devices: readonly DeviceSpec[], shape: MeshShape): GroupCost | undefined => {
    const split = splitOf(shape);
    const asked = JSON.stringify([apart && openings.apart !== undefined, devices.map(key), shape.pipeline, split]);
    if (known.has(asked)) return known.get(asked);
    const { graph, how } = (apart ? openings.apart : undefined) ?? openings.together;
    const cost = wherePossible(split, () => groupCost(graph, devices, shape.pipeline, { ...how, split }));
    known.set(asked, cost);
    return cost;
  };
};

/** A model, or a stage of it, that has fewer tokens than there are ranks, or whose tokens go too many ways for the solver. */
const NOT_BY_TOKENS: ReadonlySet<string> = new Set(['PLAN_TOKENS', 'PLAN_TOO_WIDE']);

/** Undefined where tokens cannot be split; what goes wrong with tensors goes wrong with the whole plan. */
const wherePossible = (split: Split, cost: () => GroupCost | undefined): GroupCost | undefined => {
  try {
    return cost();
  } catch (error) {
    if (split === 'tokens' && error instanceof TandemError && NOT_BY_TOKENS.has(error.code)) return undefined;
    throw error;
  }
};

const costOf = (
  shape: MeshShape,
  devices: readonly DeviceSpec[],
  openings: Openings,
  concurrency: number,
  groupOf: ReturnType<typeof remembering>,
): MeshCost | undefined => {
  const apart = runsPassesApart(shape) && openings.apart !== undefined;
  // Two groups for the passes of guidance are of no use where there is one pass.
  if (shape.guidance > 1 && !apart) return undefined;
  const count = sides(shape);
  const size = devices.length / count;
  const groups = Array.from({ length: count }, (_, side) =>
    groupOf(apart, devices.slice(side * size, (side + 1) * size), shape),
  ).filter((group) => group !== undefined);
  if (groups.length < count) return undefined;
  const runs = apart ? PASSES : 1;
  const underWay = (concurrency * runs) / count;
  return {
    shape,
    latency_step_ms: latencyMs(groups, runs),
    throughput_step_ms: runs / sum(groups.map((group) => runsPerMs(group, underWay))),
    weight_bytes: Math.max(...groups.flatMap(({ ranks }) => ranks.map((rank) => rank.weight_bytes))),
    wire_bytes: Math.max(...groups.map(({ sentBytes }) => sentBytes)),
    fits: fits(groups, devices),
    devices: devices.map((_, rank) => rank),
  };
};

/** Each device alone; those that differ in nothing that a plan looks at need one look. */
const alone = (devices: readonly DeviceSpec[], cost: (device: DeviceSpec) => MeshCost | undefined) =>
  devices
    .filter((device, index) => devices.findIndex((other) => key(other) === key(device)) === index)
    .flatMap((device) => {
      const found = cost(device);
      return found === undefined ? [] : [{ ...found, devices: [devices.indexOf(device)] }];
    });

/**
 * Every way to use all devices, and each device alone.
 * @param concurrency pictures that are made at once, for the throughput
 */
export const costMeshes = (
  devices: readonly DeviceSpec[],
  openings: Openings,
  concurrency: number,
): readonly MeshCost[] => {
  const groupOf = remembering(openings);
  const cost = (shape: MeshShape, used: readonly DeviceSpec[]): MeshCost | undefined =>
    costOf(shape, used, openings, concurrency, groupOf);
  const [single] = shapesOf(1);
  return [
    ...shapesOf(devices.length).flatMap((shape) => cost(shape, devices) ?? []),
    ...(devices.length > 1 ? alone(devices, (device) => single && cost(single, [device])) : []),
  ];
};

/** A step must be this much shorter to be worth a change. */
const CLEARLY = 0.97;

export type Aim = 'latency' | 'throughput';

export const aimMs = (cost: MeshCost, aim: Aim): number =>
  aim === 'latency' ? cost.latency_step_ms : cost.throughput_step_ms;

/** The tensors over all devices, which is what there is where nothing is clearly better. */
export const tensorsOverAll = (costs: readonly MeshCost[]): MeshCost | undefined =>
  costs.find(({ shape, devices }) => devices.length === shape.tensor);

/** Of equal ones that with the fewest devices, which leaves the others free. */
const byAim =
  (aim: Aim) =>
  (a: MeshCost, b: MeshCost): number =>
    aimMs(a, aim) - aimMs(b, aim) || a.devices.length - b.devices.length;

/** The way that is best for an aim, of those that fit; undefined where the tensors over all devices are about as good. */
export const bestFor = (costs: readonly MeshCost[], aim: Aim): MeshCost | undefined => {
  const own = tensorsOverAll(costs);
  const [best] = costs.filter(({ fits }) => fits).toSorted(byAim(aim));
  if (best === undefined || best === own) return undefined;
  return own === undefined || !own.fits || aimMs(best, aim) <= CLEARLY * aimMs(own, aim) ? best : undefined;
};
