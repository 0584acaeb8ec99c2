/** Cuts tensors up as placements say and puts them together again, and thinks of placements that are hard on a rule. */

import { fromNumbers, toNumbers } from '#tandem/common/elements.js';
import { elementCount, type HostTensor } from '#tandem/common/tensor.js';
import { createRandomStream } from '#tandem/coordinator/pipeline/random.js';
import {
  apportion,
  type Piece,
  type Placement,
  placementKey,
  rankRanges,
  type Shard,
} from '#tandem/partition/graph/placement.js';
import { sliceTensor } from '#tandem/partition/graph/slice.js';

/**
 * What each of `ranks` ranks holds of a tensor. Partial: random addends of unlike size that sum to it.
 * @param seed of the addends; operands of one node need different ones
 */
export const distribute = (
  tensor: HostTensor,
  placement: Placement,
  ranks: number,
  seed: number,
): readonly HostTensor[] => {
  switch (placement.kind) {
    case 'replicate':
      return Array.from({ length: ranks }, () => tensor);
    case 'shard':
      return Array.from({ length: ranks }, (_, rank) =>
        sliceTensor(tensor, placement.axis, rankRanges(placement, rank)),
      );
    case 'partial':
      return addends(tensor, ranks, seed);
  }
};

const addends = (tensor: HostTensor, ranks: number, seed: number): readonly HostTensor[] => {
  const noise = createRandomStream(seed);
  const rest = toNumbers(tensor);
  const parts: HostTensor[] = [];
  for (let rank = 0; rank < ranks - 1; rank++) {
    const part = fromNumbers(
      tensor,
      noise.normal(rest.length).map((value) => value * (rank + 1)),
    );
    // What was rounded is taken off, so that the sum is the tensor.
    toNumbers(part).forEach((value, i) => {
      rest[i] = (rest[i] ?? 0) - value;
    });
    parts.push(part);
  }
  return [...parts, fromNumbers(tensor, rest)];
};

/** The whole tensor from what the ranks hold; undefined where their parts do not fit together. */
export const combine = (
  parts: readonly (HostTensor | undefined)[],
  placement: Placement,
  shape: readonly number[],
): HostTensor | undefined => {
  const known = parts.filter((part) => part !== undefined);
  const [first] = known;
  if (!first || known.length !== parts.length) return undefined;
  switch (placement.kind) {
    case 'replicate':
      return known.every((part) => Buffer.from(part.data).equals(first.data)) ? first : undefined;
    case 'partial':
      return known.every((part) => part.shape.join() === first.shape.join()) ? addUp(known, first) : undefined;
    case 'shard':
      return join(known, placement, shape);
  }
};

const addUp = (parts: readonly HostTensor[], first: HostTensor): HostTensor => {
  const sum = new Float64Array(elementCount(first.shape));
  for (const part of parts)
    toNumbers(part).forEach((value, i) => {
      sum[i] = (sum[i] ?? 0) + value;
    });
  return fromNumbers(first, sum);
};

/** Writes each rank's part to where it was cut from. */
const join = (parts: readonly HostTensor[], shard: Shard, shape: readonly number[]): HostTensor | undefined => {
  const [first] = parts;
  if (!first) return undefined;
  const inner = elementCount(shape.slice(shard.axis + 1));
  const outer = elementCount(shape.slice(0, shard.axis));
  const extent = shape[shard.axis] ?? 0;
  const whole = new Float64Array(elementCount(shape));
  for (const [rank, part] of parts.entries()) {
    const rows = rankRanges(shard, rank).flatMap(([start, end]) =>
      Array.from({ length: end - start }, (_, i) => start + i),
    );
    const expected = shape.map((size, axis) => (axis === shard.axis ? rows.length : size));
    if (part.shape.join() !== expected.join()) return undefined;
    const values = toNumbers(part);
    for (let o = 0; o < outer; o++) {
      rows.forEach((row, r) => {
        const from = (o * rows.length + r) * inner;
        whole.set(values.subarray(from, from + inner), (o * extent + row) * inner);
      });
    }
  }
  return fromNumbers({ dtype: first.dtype, shape }, whole);
};

const lopsided = (extent: number, ranks: number, large: number): Piece | undefined => {
  if (extent < ranks) return undefined;
  const bounds = [0];
  for (let rank = 0; rank < ranks; rank++)
    bounds.push((bounds.at(-1) ?? 0) + (rank === large ? extent - ranks + 1 : 1));
  return { extent, bounds };
};

/** Each rank's part with a unit of the next one's as well. */
const overlap = (piece: Piece | undefined, units: number): Piece | undefined => {
  if (!piece || !Number.isInteger(units)) return undefined;
  const ends = piece.bounds.slice(1).map((bound) => Math.min(piece.extent, bound + piece.extent / units));
  return { ...piece, ends };
};

const pieceLists = (extent: number, speeds: readonly number[]): readonly (readonly (Piece | undefined)[])[] => {
  const ranks = speeds.length;
  const inOne = Array.from({ length: extent }, (_, i) => i + 1)
    .filter((units) => extent % units === 0)
    .map((units) => [apportion(extent, units, speeds)]);
  const seams = [...new Set([ranks, Math.floor(extent / 2), extent - ranks])];
  const inTwo = seams.flatMap((seam) => [
    [apportion(seam, seam, speeds), apportion(extent - seam, extent - seam, speeds)],
    [lopsided(seam, ranks, 0), lopsided(extent - seam, ranks, ranks - 1)],
  ]);
  const third = extent / 3;
  const inThree = Number.isInteger(third) ? [Array.from({ length: 3 }, () => apportion(third, third, speeds))] : [];
  const overlapping = [extent, extent / 2, extent / 3].map((units) => [
    overlap(apportion(extent, units, speeds), units),
  ]);
  return [
    ...overlapping,
    ...inOne,
    [lopsided(extent, ranks, 0)],
    [lopsided(extent, ranks, ranks - 1)],
    ...inTwo,
    ...inThree,
  ];
};

/**
 * Ways to split an axis: in proportion to the speeds, at every possible unit, very unevenly, and in several pieces that
 * are each split by themselves, alike or not, or overlap. Every rank gets a part of every piece.
 */
export const candidateShards = (axis: number, extent: number, speeds: readonly number[]): readonly Shard[] => {
  const shards = new Map<string, Shard>();
  for (const pieces of pieceLists(extent, speeds)) {
    const whole = pieces.filter((piece) => piece !== undefined);
    if (whole.length !== pieces.length) continue;
    const shard: Shard = { kind: 'shard', axis, pieces: whole };
    shards.set(placementKey(shard), shard);
  }
  return [...shards.values()];
};
