/** What the writing thread and its parent say to each other: one task is one rank's weights file. */
import type { SliceLayout } from '../slice.js';
import type { SliceOrigin } from '../slice-copy.js';

/** ONNX Runtime maps weights that start on a page; 4096 bytes also suits direct reads. */
export const ALIGNMENT_BYTES = 4096;

export interface StoredSlice {
  /** In the weights file, in bytes; entries follow each other in ascending order. */
  readonly position: number;
  readonly origin: SliceOrigin;
  readonly layout: SliceLayout;
}

export interface WriteTask {
  /** Absolute; does not exist yet. */
  readonly file: string;
  readonly slices: readonly StoredSlice[];
  /** One counter over a SharedArrayBuffer: bytes written so far, of all tasks together. */
  readonly progress: BigInt64Array<SharedArrayBuffer>;
}

/** Errors come back as data, for a thread boundary strips their codes. */
export type WriteResult =
  | { readonly kind: 'written'; readonly bytes: number; readonly sha256: string }
  | { readonly kind: 'failed'; readonly code: string; readonly message: string };
