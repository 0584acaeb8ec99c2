/** What makes a tensor whole again on every rank, and what that sends. */
import { localElements, type Placement, samePlacement } from './placement.js';
import { elementCount } from './tensor.js';

export type CollectiveKind = 'all-reduce' | 'all-gather';

/** The collective that makes a tensor whole; undefined where it is. */
export const collectiveFor = (placement: Placement): CollectiveKind | undefined => {
  switch (placement.kind) {
    case 'replicate':
      return undefined;
    case 'partial':
      return 'all-reduce';
    case 'shard':
      return 'all-gather';
  }
};

/** Elements that a rank sends, over all its peers: what it has goes directly from it to each other rank. */
export const sentElements = (shape: readonly number[], placement: Placement, rank: number, worldSize: number): number =>
  (placement.kind === 'shard' ? localElements(shape, placement, rank) : elementCount(shape)) * (worldSize - 1);

/** Whether a consumer that needs `wanted` can be served by a tensor that lies as `held`: a whole one can be sliced. */
export const serves = (held: Placement, wanted: Placement): boolean =>
  samePlacement(held, wanted) || (held.kind === 'replicate' && wanted.kind === 'shard');
