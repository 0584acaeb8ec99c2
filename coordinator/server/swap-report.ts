/** What is told of swaps: to who asked for one, to metrics and to probes. */
import type { TandemError } from '../../common/errors.js';

export type SwapState =
  | { readonly kind: 'none' }
  | { readonly kind: 'loading' }
  | { readonly kind: 'completed' }
  | { readonly kind: 'failed'; readonly error: TandemError };

/** How a swap ended. */
export type SwapOutcome = Exclude<SwapState, { kind: 'none' | 'loading' }>;

/** What is told of swaps. */
export interface SwapReport {
  /** Of the last one, or of the one under way. */
  readonly state: SwapState;
  readonly completed: number;
  readonly failed: number;
}
