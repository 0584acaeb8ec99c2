/** What the worker's main thread asks of its compute thread, and what the two say to each other while a step runs over sockets. */
import type { MessagePort } from 'node:worker_threads';
import type { Problem } from '../common/answer.js';
import type { Provider } from '../common/onnxruntime.js';
import type { HostTensor, TensorSpec } from '../common/tensor.js';
import type { OptimisedFor, SegmentEntry } from '../partition/write/manifest.js';
import type { DirectSocketOptions } from './direct-sockets/link.js';
import type { Place } from './frames.js';
import type { TraceEvent } from './recorder.js';
import type { SharedMemoryOptions } from './shared-memory/link.js';

export type Tensors = Readonly<Record<string, HostTensor>>;

/** Opens a segment. */
export interface OpenTask {
  /** Its number in the rank's program. */
  readonly index: number;
  /** Absolute path of the graph. */
  readonly path: string;
  readonly segment: SegmentEntry;
  /** Names of what the network's step gives out. */
  readonly given: readonly string[];
  readonly provider: Provider;
  readonly deviceId: number;
  readonly threads: number;
  /** Of the rank, for messages. */
  readonly weightBytes: number;
  /** What the rank's segments were prepared for; absent where they are to be optimised now. */
  readonly prepared?: OptimisedFor;
}

/** Gives the thread its way to the peers, in place of the one before. */
export interface ConnectTask {
  /** Of `ThreadStatus`. */
  readonly status: SharedArrayBuffer;
  readonly link:
    | { readonly kind: 'sockets'; readonly port: MessagePort }
    | ({ readonly kind: 'direct-sockets' } & DirectSocketOptions)
    | ({ readonly kind: 'shared-memory' } & SharedMemoryOptions);
}

/** Runs a network once for each micro-batch, with the peers. */
export interface StepTask {
  readonly id: number;
  /** Number of the network's first segment in the rank's program. */
  readonly first: number;
  readonly count: number;
  /** Inputs by name; index is the micro-batch. */
  readonly microBatches: readonly Tensors[];
  readonly inputs: readonly TensorSpec[];
  readonly outputs: readonly string[];
  /** Whether to tell what went on when. */
  readonly trace: boolean;
}

/** Runs a segment by itself, to see what it computes. */
export interface RehearseTask {
  /** Its number in the rank's program. */
  readonly index: number;
}

export interface StepDone {
  /** Index is the micro-batch. */
  readonly outputs: readonly Tensors[];
  readonly computeMs: number;
  /** In which nothing was computed. */
  readonly exchangeMs: number;
  readonly sentBytes: number;
  /** Between the host's memory and the device's, both ways. */
  readonly copiedBytes: number;
  /** Where asked for. */
  readonly trace?: readonly TraceEvent[];
}

/**
 * A segment's tensors for the main thread's sockets: in memory that both threads see, which comes back as `delivered`. What
 * was handed over after the segment before has been copied.
 */
export interface Outgoing {
  readonly place: Place;
  readonly tensors: Tensors;
}

/** All that the peers sent after a segment, in such memory; or why it will not come. */
export type Incoming =
  | {
      readonly kind: 'arrived';
      readonly place: Place;
      readonly tensors: Tensors;
      readonly delivered: readonly HostTensor[];
    }
  | { readonly kind: 'failed'; readonly place: Place; readonly problem: Problem };
