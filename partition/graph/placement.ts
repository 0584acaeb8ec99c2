/**
 * How a tensor lies on the ranks: whole on each (`replicate`), in parts along one axis (`shard`), or as addends
 * (`partial`: the sum over the ranks is the tensor). The vocabulary is DTensor's; `pieces` is what it lacks: an axis made
 * of several stretches, each split by itself, as a fused QKV projection, GEGLU's two halves, or a Concat of two shards.
 */
import { elementCount } from '../../common/tensor.js';

/** A stretch of an axis and where the ranks' parts of it begin: `bounds[r]` to `bounds[r + 1]` is rank r's. */
export interface Piece {
  readonly extent: number;
  /** `world size + 1` ascending offsets from 0 to `extent`. */
  readonly bounds: readonly number[];
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
      return `S${axis}:${pieces.map((piece) => piece.bounds.join(',')).join('|')}${rows}`;
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
  for (const { extent, bounds } of shard.pieces) {
    const start = base + Math.max(0, (bounds[rank] ?? 0) - before);
    const end = base + Math.min(extent, (bounds[rank + 1] ?? 0) + after);
    if (end > start) ranges.push([start, end]);
    base += extent;
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

/** The same proportions over an axis of another extent, or undefined where a bound would not be whole. */
export const rescalePiece = (piece: Piece, extent: number): Piece | undefined => {
  const bounds = piece.bounds.map((bound) => (bound * extent) / piece.extent);
  return bounds.every(Number.isInteger) ? { extent, bounds } : undefined;
};

/** Whether every bound of every piece is a multiple of `unit`. */
export const isAligned = (shard: Shard, unit: number): boolean =>
  shard.pieces.every((piece) => piece.bounds.every((bound) => bound % unit === 0));
