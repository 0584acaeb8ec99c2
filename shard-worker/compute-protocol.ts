/**
 * What the worker's main thread asks of its compute thread. Tensors that are exchanged lie in memory that both threads see, which
 * belongs to the main thread: the compute thread copies from there and into there while it runs a segment, and keeps no view of it.
 */

import type { Provider } from '../common/onnxruntime.js';
import type { HostTensor } from '../common/tensor.js';
import type { OptimisedFor, SegmentEntry } from '../partition/write/manifest.js';
import type { Problem } from './protocol.js';

export type Tensors = Readonly<Record<string, HostTensor>>;

/** Opens a segment. */
export interface OpenTask {
  /** Its number in the rank's program. */
  readonly index: number;
  /** Absolute path of the graph. */
  readonly path: string;
  readonly segment: SegmentEntry;
  readonly provider: Provider;
  readonly deviceId: number;
  readonly threads: number;
  /** What the rank's segments were prepared for; absent where they are to be optimised now. */
  readonly prepared?: OptimisedFor;
}

/** Runs a segment, given what has arrived since the last one (for the first segment: the model's inputs). */
export interface RunTask {
  readonly segment: number;
  /** Which of the step's; each has tensors of its own. */
  readonly microBatch: number;
  readonly arrived: Tensors;
  /** Where the segment's `sends` go, by name. */
  readonly sent: Tensors;
}

export interface RunResult {
  readonly compute_ms: number;
}

/** Ends a micro-batch: hands out copies of the wanted tensors and forgets all. */
export interface FinishTask {
  readonly microBatch: number;
  readonly arrived: Tensors;
  readonly outputs: readonly string[];
}

/** What the compute thread answers: errors lose their class and code between threads, so they cross as data. */
export type Answer<T> =
  | { readonly kind: 'done'; readonly value: T }
  | { readonly kind: 'failed'; readonly problem: Problem };
