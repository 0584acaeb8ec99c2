/** What `tandem plan` says of a plan; the JSON keys are a contract. */
import type { DType } from './tensor.js';

export interface PlanReport {
  readonly world_size: number;
  readonly ranks: readonly {
    readonly rank: number;
    readonly device: string;
    readonly weight_bytes: number;
    readonly activation_peak_bytes: number;
    /** Share of the model's floating-point operations that this rank runs, 0 to 1. */
    readonly flop_fraction: number;
  }[];
  /** Share of the model's weight bytes of which no rank holds all, 0 to 1. */
  readonly sharded_weight_fraction: number;
  readonly sharded_flop_fraction: number;
  /** Segments of a rank's program. */
  readonly segments: number;
  readonly collectives: readonly {
    readonly kind: 'all-reduce' | 'all-gather' | 'reduce-scatter' | 'all-to-all';
    readonly tensor: string;
    readonly shape: readonly number[];
    readonly dtype: DType;
    /** Bytes that the slowest rank sends. */
    readonly bytes: number;
  }[];
  readonly collective_count: number;
  readonly wire_bytes_per_step: number;
  readonly replicated: readonly {
    readonly node: string;
    readonly op: string;
    readonly reason: string;
    readonly flop_fraction: number;
  }[];
  readonly predicted: { readonly single_step_ms: number; readonly step_ms: number; readonly speedup: number };
}
