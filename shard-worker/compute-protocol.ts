/** What the worker's main thread asks of its compute thread. Tensors are handed over, not copied, in both directions. */
import type { PreparedFor, SegmentEntry } from '../partition/manifest.js';
import type { Provider } from '../partition/onnxruntime.js';
import type { HostTensor } from '../partition/tensor.js';
import type { Problem } from './protocol.js';

export type Tensors = Readonly<Record<string, HostTensor>>;

/** Opens the next segment. */
export interface OpenTask {
  /** Absolute path of the graph. */
  readonly path: string;
  readonly segment: SegmentEntry;
  readonly provider: Provider;
  readonly deviceId: number;
  readonly threads: number;
  /** What the rank's segments were prepared for; absent where they are to be optimised now. */
  readonly prepared?: PreparedFor;
}

/** Runs a segment, given what has arrived since the last one (for the first segment: the model's inputs). */
export interface RunTask {
  readonly segment: number;
  readonly arrived: Tensors;
}

export interface RunResult {
  /** The segment's `sends`, by name. */
  readonly sent: Tensors;
  readonly compute_ms: number;
}

/** Ends a step: hands out the wanted tensors and forgets all others. */
export interface FinishTask {
  readonly arrived: Tensors;
  readonly outputs: readonly string[];
}

/** What the compute thread answers: errors lose their class and code between threads, so they cross as data. */
export type Answer<T> =
  | { readonly kind: 'done'; readonly value: T }
  | { readonly kind: 'failed'; readonly problem: Problem };

/** Buffers of tensors that own theirs, for a transfer list. */
export const buffersOf = (tensors: Tensors): ArrayBuffer[] => [
  ...new Set(Object.values(tensors).map((tensor) => tensor.data.buffer as ArrayBuffer)),
];

/** The same tensor in a buffer that holds nothing else, so that it can change threads. */
export const ownBuffer = (tensor: HostTensor): HostTensor =>
  tensor.data.byteLength === tensor.data.buffer.byteLength ? tensor : copyOf(tensor);

/** A copy in a buffer of its own. */
export const copyOf = (tensor: HostTensor): HostTensor => {
  const data = Buffer.allocUnsafeSlow(tensor.data.byteLength);
  data.set(tensor.data);
  return { ...tensor, data };
};
