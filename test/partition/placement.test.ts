import { expect, it } from 'vitest';
import {
  apportion,
  isAligned,
  localShape,
  PARTIAL,
  placementKey,
  REPLICATE,
  rangesWithin,
  rankRanges,
  rankSize,
  rescalePiece,
  type Shard,
  shardExtent,
  widen,
} from '#tandem/partition/graph/placement.js';

const SPEEDS: readonly (readonly number[])[] = [
  [1],
  [1, 1],
  [2, 1],
  [1, 2],
  [1, 1, 1],
  [5, 1, 1],
  [1, 1, 1, 1],
  [0.3, 0.7],
  [100, 1],
  [3, 2, 2, 1],
  [1e-3, 1e3, 1],
];
const UNITS = [1, 2, 3, 4, 5, 7, 8, 10, 16, 32, 77, 320];
const CASES = SPEEDS.flatMap((speeds) => UNITS.map((units) => ({ speeds, units })));
const PER_UNIT = 3;

const sizesOf = (bounds: readonly number[]): readonly number[] =>
  bounds.slice(1).map((bound, i) => bound - (bounds[i] ?? 0));

const sum = (numbers: readonly number[]): number => numbers.reduce((total, number) => total + number, 0);

const shardOf = (extent: number, speeds: readonly number[]): Shard => {
  const piece = apportion(extent, extent, speeds);
  if (!piece) throw new Error(`${extent} cannot be split over ${speeds.length} ranks.`);
  return { kind: 'shard', axis: 1, pieces: [piece] };
};

it('rounds parts outwards, so that some overlap, and finds a narrower part in a wider one', () => {
  const shard: Shard = { kind: 'shard', axis: 1, pieces: [{ extent: 6, bounds: [0, 2, 4, 6] }] };
  const wide = widen(shard, 3);
  expect(wide && placementKey(wide)).toBe('S1:0,0,3,6~3,6,6');
  expect(wide && [0, 1, 2].map((rank) => rangesWithin(wide, shard, rank))).toEqual([[[0, 2]], [[2, 4]], [[1, 3]]]);
  expect(widen(shard, 2)).toEqual(shard);
  expect(widen(shard, 6)).toBeUndefined();
});

it('splits an axis completely, in order, and only between units', () => {
  for (const { speeds, units } of CASES) {
    const piece = apportion(units * PER_UNIT, units, speeds);
    if (!piece) continue;
    expect(piece.bounds[0]).toBe(0);
    expect(piece.bounds.at(-1)).toBe(units * PER_UNIT);
    expect(sum(sizesOf(piece.bounds))).toBe(piece.extent);
    expect(piece.bounds.every((bound) => bound % PER_UNIT === 0)).toBe(true);
  }
});

it('gives every rank at least one unit, and refuses where there are fewer units than ranks', () => {
  for (const { speeds, units } of CASES) {
    const piece = apportion(units * PER_UNIT, units, speeds);
    expect(piece === undefined).toBe(units < speeds.length);
    if (piece) expect(Math.min(...sizesOf(piece.bounds))).toBeGreaterThanOrEqual(PER_UNIT);
  }
});

it('stays within one unit of the exact share wherever that is at least one unit for every rank', () => {
  for (const { speeds, units } of CASES) {
    const exact = speeds.map((speed) => (speed * units) / sum(speeds));
    const piece = apportion(units, units, speeds);
    if (!piece || Math.min(...exact) < 1) continue;
    sizesOf(piece.bounds).forEach((size, rank) => {
      expect(Math.abs(size - (exact[rank] ?? 0))).toBeLessThan(1);
    });
  }
});

it('gives a faster rank no less than a slower one', () => {
  for (const { speeds, units } of CASES) {
    const piece = apportion(units, units, speeds);
    if (!piece) continue;
    const sizes = sizesOf(piece.bounds);
    speeds.forEach((a, i) => {
      speeds.forEach((b, j) => {
        if (a > b) expect(sizes[i] ?? 0).toBeGreaterThanOrEqual(sizes[j] ?? 0);
      });
    });
  }
});

it('splits 5 heads on 2 ranks as 3 and 2', () => {
  expect(apportion(320, 5, [1, 1])?.bounds).toEqual([0, 192, 320]);
});

it('refuses units that do not divide the axis', () => {
  expect(apportion(10, 4, [1, 1])).toBeUndefined();
});

it('rescales a piece only where its bounds stay whole', () => {
  expect(rescalePiece({ extent: 6, bounds: [0, 4, 6] }, 12)?.bounds).toEqual([0, 8, 12]);
  expect(rescalePiece({ extent: 6, bounds: [0, 4, 6] }, 9)?.bounds).toEqual([0, 6, 9]);
  expect(rescalePiece({ extent: 6, bounds: [0, 4, 6] }, 4)).toBeUndefined();
});

it('tells where a rank’s parts of several pieces lie in the whole axis', () => {
  const shard: Shard = {
    kind: 'shard',
    axis: 1,
    pieces: [
      { extent: 4, bounds: [0, 3, 4] },
      { extent: 6, bounds: [0, 2, 6] },
    ],
  };
  expect(rankRanges(shard, 0)).toEqual([
    [0, 3],
    [4, 6],
  ]);
  expect(rankRanges(shard, 1)).toEqual([
    [3, 4],
    [6, 10],
  ]);
  expect([0, 1].map((rank) => rankSize(shard, rank))).toEqual([5, 5]);
  expect(shardExtent(shard)).toBe(10);
  expect(localShape([2, 10, 3], shard, 0)).toEqual([2, 5, 3]);
  expect(localShape([2, 10, 3], PARTIAL, 0)).toEqual([2, 10, 3]);
  expect(isAligned(shard, 2)).toBe(false);
  expect(isAligned(shard, 1)).toBe(true);
});

it('gives equal placements equal keys, and others other keys', () => {
  const keys = [REPLICATE, PARTIAL, shardOf(6, [1, 1]), shardOf(6, [2, 1]), { ...shardOf(6, [1, 1]), axis: 2 }];
  expect(new Set(keys.map(placementKey)).size).toBe(keys.length);
  expect(placementKey(shardOf(6, [1, 1]))).toBe(placementKey(shardOf(6, [1, 1])));
});
