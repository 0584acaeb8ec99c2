/** What collectives make of a tensor, one after the other, and what each of them sends. */

import { elementCount } from '../../common/tensor.js';
import {
  apportion,
  isOverlapping,
  localElements,
  PARTIAL,
  type Placement,
  placementKey,
  REPLICATE,
  rangesWithin,
  rankRanges,
  rankSize,
  type Shard,
  samePlacement,
  shardExtent,
  shardWorldSize,
  withoutHalo,
} from './placement.js';

/** One collective. All ranks' parts lie as `from` says before it, and as `to` says after it. */
export type Conversion =
  | { readonly kind: 'all-reduce'; readonly from: Placement; readonly to: Placement }
  | { readonly kind: 'reduce-scatter'; readonly from: Placement; readonly to: Shard }
  | { readonly kind: 'all-gather'; readonly from: Shard; readonly to: Placement }
  | Move;

/**
 * From one shard to another. `all-to-all`: along another axis, each rank sends each other one its part of what it has. `halo`: the
 * same with rows of the neighbours', which they send.
 */
export interface Move {
  readonly kind: 'all-to-all' | 'halo';
  readonly from: Shard;
  readonly to: Shard;
}

export type CollectiveKind = Conversion['kind'];

const ALL_REDUCE: Conversion = { kind: 'all-reduce', from: PARTIAL, to: REPLICATE };
const reduceScatter = (to: Shard): Conversion => ({ kind: 'reduce-scatter', from: PARTIAL, to });
const allGather = (from: Shard): Conversion => ({ kind: 'all-gather', from, to: REPLICATE });

export const isMove = (conversion: Conversion): conversion is Move =>
  conversion.kind === 'all-to-all' || conversion.kind === 'halo';

/** How a tensor lies as its node makes it, and the collectives that make more of it, each of what the one before made. */
export interface TensorState {
  readonly made: Placement;
  readonly conversions: readonly Conversion[];
}

/** All the ways in which a tensor lies, in the order in which they come to be: each a collective later than the one before. */
export const formsOf = ({ made, conversions }: TensorState): readonly Placement[] => [
  made,
  ...conversions.map(({ to }) => to),
];

/** The most even split of a tensor, along the first axis that has it; undefined where no axis has a part for each rank. */
const evenShard = (shape: readonly number[], worldSize: number): Shard | undefined => {
  const largestPart = (extent: number) => Math.ceil(extent / worldSize) / extent;
  const sizes = shape.map((extent) => (extent < worldSize ? Number.POSITIVE_INFINITY : largestPart(extent)));
  const axis = sizes.indexOf(Math.min(...sizes));
  const extent = shape[axis] ?? 0;
  const piece = apportion(extent, extent, new Array<number>(worldSize).fill(1));
  return piece && { kind: 'shard', axis, pieces: [piece] };
};

/** From a shard to one that is wanted: along another axis, or with more rows of the same; undefined where it is neither. */
const move = (from: Shard, to: Shard): Move | undefined => {
  if (from.axis !== to.axis) return { kind: 'all-to-all', from, to };
  return to.halo && samePlacement(from, withoutHalo(to)) ? { kind: 'halo', from, to } : undefined;
};

/**
 * The sequences of collectives that are worth a thought for a tensor. A partial one becomes whole at once (all-reduce: each rank
 * sends all of its addend to each other one), or in two (reduce-scatter, then all-gather), which sends `2 / worldSize` times as
 * much and waits twice. Of the shards in between, those serve that somebody reads, and the most even one.
 * @param wanted shards that the tensor's readers can take
 * @param mayMove whether a shard may become another one, without ever being whole
 */
export const findConversions = (
  made: Placement,
  shape: readonly number[],
  wanted: readonly Shard[],
  worldSize: number,
  mayMove = false,
): readonly (readonly Conversion[])[] => {
  switch (made.kind) {
    case 'replicate':
      return [[]];
    case 'shard':
      if (isOverlapping(made)) return [[]];
      return [
        [],
        [allGather(made)],
        ...(mayMove ? wanted.flatMap((to) => move(made, to) ?? []).map((one) => [one]) : []),
      ];
    case 'partial': {
      const even = evenShard(shape, worldSize);
      const apart = wanted.filter(({ halo }) => halo === undefined);
      const shards = new Map([...apart, ...(even ? [even] : [])].map((shard) => [placementKey(shard), shard]));
      return [
        [],
        [ALL_REDUCE],
        ...apart.map((shard) => [reduceScatter(shard)]),
        ...[...shards.values()].map((shard) => [reduceScatter(shard), allGather(shard)]),
      ];
    }
  }
};

/**
 * What a rank sends another one in a move, as stretches of its own part along an axis; none where the other one needs nothing of it.
 */
export const movedRanges = (
  { from, to }: Move,
  rank: number,
  receiver: number,
): { readonly axis: number; readonly ranges: readonly (readonly [number, number])[] } => {
  const wanted = rankRanges(to, receiver);
  if (from.axis !== to.axis) return { axis: to.axis, ranges: wanted };
  const ranges: (readonly [number, number])[] = [];
  let base = 0;
  for (const [start, end] of rankRanges(from, rank)) {
    for (const [first, last] of wanted) {
      const [low, high] = [Math.max(start, first), Math.min(end, last)];
      if (low < high) ranges.push([base + low - start, base + high - start]);
    }
    base += end - start;
  }
  return { axis: to.axis, ranges };
};

const length = (ranges: readonly (readonly [number, number])[]): number =>
  ranges.reduce((sum, [start, end]) => sum + end - start, 0);

const movedElements = (shape: readonly number[], one: Move, rank: number, worldSize: number): number => {
  const held = one.from.axis === one.to.axis ? rankSize(one.from, rank) : shardExtent(one.to);
  const perRow = localElements(shape, one.from, rank) / Math.max(1, held);
  return Array.from({ length: worldSize }, (_, receiver) =>
    receiver === rank ? 0 : perRow * length(movedRanges(one, rank, receiver).ranges),
  ).reduce((sum, elements) => sum + elements, 0);
};

/** Elements that a rank sends, over all its peers: what a peer needs of it goes directly from it to that peer. */
export const sentElements = (
  shape: readonly number[],
  conversion: Conversion,
  rank: number,
  worldSize: number,
): number => {
  switch (conversion.kind) {
    case 'all-reduce':
      return elementCount(shape) * (worldSize - 1);
    case 'reduce-scatter':
      return elementCount(shape) - localElements(shape, conversion.to, rank);
    case 'all-gather':
      return localElements(shape, conversion.from, rank) * (worldSize - 1);
    case 'all-to-all':
    case 'halo':
      return movedElements(shape, conversion, rank, worldSize);
  }
};

/** Whether every rank has what it needs of a shard in its part of another one, which overlaps. */
const covers = (held: Shard, wanted: Shard): boolean =>
  isOverlapping(held) &&
  Array.from({ length: shardWorldSize(held) }, (_, rank) => rangesWithin(held, wanted, rank)).every(
    (ranges) => ranges !== undefined,
  );

/** Whether a consumer that needs `wanted` can be served by a tensor that lies as `held`: a whole one can be sliced, and a wider part. */
const serves = (held: Placement, wanted: Placement): boolean => {
  if (samePlacement(held, wanted)) return true;
  if (wanted.kind !== 'shard') return false;
  return held.kind === 'replicate' || (held.kind === 'shard' && covers(held, wanted));
};

/**
 * The first form of a tensor that serves a consumer: its index among `formsOf`, hence the number of collectives that the
 * consumer waits for; undefined where there is none. No form after it would serve better, for only the last one can be whole.
 */
export const findForm = (state: TensorState, wanted: Placement): number | undefined => {
  const index = formsOf(state).findIndex((form) => serves(form, wanted));
  return index < 0 ? undefined : index;
};

/** @throws RangeError where no form serves, which no plan allows */
export const requireForm = (state: TensorState, wanted: Placement): number => {
  const index = findForm(state, wanted);
  if (index === undefined) throw new RangeError(`A tensor is read as ${placementKey(wanted)}, but never lies so.`);
  return index;
};
