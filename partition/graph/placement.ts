/**
 * How a tensor lies on the ranks: whole on each (`replicate`), in parts along one axis (`shard`), or as addends
 * (`partial`: the sum over the ranks is the tensor). The vocabulary is DTensor's; `pieces` is what it lacks: an axis made
 * of several stretches, each split by itself, as a fused QKV projection, GEGLU's two halves, or a Concat of two shards; and
 * parts that overlap: of key heads that several ranks' queries read, each of those ranks has its own copy.
 */
import { elementCount } from '../../common/tensor.js';

/** A stretch of an axis and where the ranks' parts of it begin: `bounds[r]` to `ends[r]`, or else `bounds[r + 1]`, is rank r's. */
export interface Piece {
  readonly extent: number;
  /** `world size + 1` ascending offsets from 0 to `extent`. */
  readonly bounds: readonly number[];
  /** `world size` ascending offsets, where parts overlap; absent where each ends at the next one's beginning. */
  readonly ends?: readonly number[];
}

/** Rows beyond a rank's part, of its neighbours': as many as a window reaches over its edges. */
export interface Halo {
  readonly before: number;
  readonly after: number;
}

export interface Shard {
  readonly kind: 'shard';
  readonly axis: number;
  readonly pieces: readonly Piece[];
  /** Of a shard in one piece: each rank's part is this much longer, as far as the axis goes. */
  readonly halo?: Halo;
}

export type Placement = { readonly kind: 'replicate' } | { readonly kind: 'partial' } | Shard;

export const REPLICATE: Placement = { kind: 'replicate' };
export const PARTIAL: Placement = { kind: 'partial' };

/** Where a rank's part of a piece begins and ends. */
export const partOf = ({ bounds, ends }: Piece, rank: number): readonly [start: number, end: number] => [
  bounds[rank] ?? 0,
  ends?.[rank] ?? bounds[rank + 1] ?? 0,
];

/** Equal pieces have equal keys. */
export const pieceKey = ({ bounds, ends }: Piece): string => bounds.join(',') + (ends ? `~${ends.join(',')}` : '');

/** Equal placements have equal keys. */
export const placementKey = (placement: Placement): string => {
  switch (placement.kind) {
    case 'replicate':
      return 'R';
    case 'partial':
      return 'P';
    case 'shard': {
      const { axis, pieces, halo } = placement;
      const rows = halo ? `~${halo.before},${halo.after}` : '';
      return `S${axis}:${pieces.map(pieceKey).join('|')}${rows}`;
    }
  }
};

export const samePlacement = (a: Placement, b: Placement): boolean => placementKey(a) === placementKey(b);

/** The same pieces along another axis. */
export const onAxis = (shard: Shard, axis: number): Shard => ({ ...shard, axis });

/** The shard by itself, as a node makes it. */
export const withoutHalo = ({ halo: _, ...shard }: Shard): Shard => shard;

/** Extent of the axis that a shard splits. */
export const shardExtent = (shard: Shard): number => shard.pieces.reduce((sum, piece) => sum + piece.extent, 0);

/** A rank's ranges `[start, end)` of the split axis, in order; empty ones are left out. */
export const rankRanges = (shard: Shard, rank: number): (readonly [number, number])[] => {
  const ranges: (readonly [number, number])[] = [];
  const { before, after } = shard.halo ?? { before: 0, after: 0 };
  let base = 0;
  for (const piece of shard.pieces) {
    const [start, end] = partOf(piece, rank);
    const [first, last] = [Math.max(0, start - before), Math.min(piece.extent, end + after)];
    if (last > first) ranges.push([base + first, base + last]);
    base += piece.extent;
  }
  return ranges;
};

/** Size of a rank's part along the split axis. */
export const rankSize = (shard: Shard, rank: number): number =>
  rankRanges(shard, rank).reduce((sum, [start, end]) => sum + end - start, 0);

/** Shape of what a rank holds of a tensor. */
export const localShape = (shape: readonly number[], placement: Placement, rank: number): number[] =>
  shape.map((size, axis) => (placement.kind === 'shard' && placement.axis === axis ? rankSize(placement, rank) : size));

/** Elements of a tensor that a rank holds. */
export const localElements = (shape: readonly number[], placement: Placement, rank: number): number =>
  elementCount(localShape(shape, placement, rank));

/** Number of ranks that a shard is for. */
export const shardWorldSize = (shard: Shard): number => (shard.pieces[0]?.bounds.length ?? 1) - 1;

/**
 * Splits `extent` at multiples of `extent / units`, in proportion to the ranks' speeds (largest remainder method).
 * @returns the shard bounds, or undefined where some rank would get nothing
 */
export const apportion = (extent: number, units: number, speeds: readonly number[]): Piece | undefined => {
  if (units < speeds.length || extent % units !== 0) return undefined;
  const total = speeds.reduce((sum, speed) => sum + speed, 0);
  const exact = speeds.map((speed) => (units * speed) / total);
  const counts = exact.map((share) => Math.max(1, Math.floor(share)));
  // What a rank was given beyond its share, to have anything at all, counts against it.
  const order = exact.map((share, rank) => ({ rank, rest: share - (counts[rank] ?? 0) }));
  order.sort((a, b) => b.rest - a.rest || a.rank - b.rank);
  const assigned = () => counts.reduce((sum, count) => sum + count, 0);
  for (let i = 0; assigned() < units; i = (i + 1) % order.length) {
    const rank = order[i]?.rank ?? 0;
    counts[rank] = (counts[rank] ?? 0) + 1;
  }
  while (assigned() > units) {
    const excess = counts.map((count, rank) => (count > 1 ? count - (exact[rank] ?? 0) : Number.NEGATIVE_INFINITY));
    const most = excess.indexOf(Math.max(...excess));
    counts[most] = (counts[most] ?? 0) - 1;
  }
  const bounds = [0];
  for (const count of counts) bounds.push((bounds.at(-1) ?? 0) + (count * extent) / units);
  return { extent, bounds };
};

/** A piece with each of its offsets changed. */
const mapPiece = ({ extent, bounds, ends }: Piece, change: (offset: number) => number): Piece => ({
  extent: change(extent),
  bounds: bounds.map(change),
  ...(ends ? { ends: ends.map(change) } : {}),
});

const offsetsOf = ({ bounds, ends = [] }: Piece): readonly number[] => [...bounds, ...ends];

/** The same over an axis that is `factor` times as long. */
export const scalePiece = (piece: Piece, factor: number): Piece => mapPiece(piece, (offset) => offset * factor);

/** The same proportions over an axis of another extent, or undefined where a bound would not be whole. */
export const rescalePiece = (piece: Piece, extent: number): Piece | undefined => {
  const scaled = mapPiece(piece, (offset) => (offset * extent) / piece.extent);
  return offsetsOf(scaled).every(Number.isInteger) ? scaled : undefined;
};

/** Whether every bound of every piece is a multiple of `unit`. */
export const isAligned = (shard: Shard, unit: number): boolean =>
  shard.pieces.every((piece) => offsetsOf(piece).every((offset) => offset % unit === 0));

/** Whether ranks share elements, which then count more than once in any sum over the ranks. */
export const isOverlapping = ({ pieces, halo }: Shard): boolean =>
  halo !== undefined || pieces.some(({ ends }) => ends !== undefined);

const widenPiece = ({ extent, bounds }: Piece, unit: number): Piece => {
  const starts = bounds.map((bound) => Math.floor(bound / unit) * unit);
  const ends = bounds.slice(1).map((bound) => Math.ceil(bound / unit) * unit);
  const overlaps = ends.some((end, rank) => end !== starts[rank + 1]);
  return overlaps ? { extent, bounds: starts, ends } : { extent, bounds: starts };
};

/**
 * Each rank's part rounded outwards to multiples of `unit`; undefined where the parts overlap already, and where every rank
 * would have all.
 */
export const widen = (shard: Shard, unit: number): Shard | undefined => {
  if (isOverlapping(shard) || shard.pieces.some(({ extent }) => extent % unit !== 0)) return undefined;
  const wide: Shard = { ...shard, pieces: shard.pieces.map((piece) => widenPiece(piece, unit)) };
  const ranks = Array.from({ length: shardWorldSize(wide) }, (_, rank) => rank);
  return ranks.some((rank) => rankSize(wide, rank) < shardExtent(wide)) ? wide : undefined;
};

/** Where in a rank's part of a tensor the ranges of another shard lie, in order; undefined where they are not all there. */
export const rangesWithin = (
  held: Placement,
  wanted: Shard,
  rank: number,
): readonly (readonly [number, number])[] | undefined => {
  const ranges = rankRanges(wanted, rank);
  if (held.kind === 'replicate') return ranges;
  if (held.kind === 'partial' || held.axis !== wanted.axis) return undefined;
  const local: (readonly [number, number])[] = [];
  let before = 0;
  for (const [from, to] of rankRanges(held, rank)) {
    for (const [start, end] of ranges)
      if (from <= start && end <= to) local.push([before + start - from, before + end - from]);
    before += to - from;
  }
  return local.length === ranges.length ? local : undefined;
};
