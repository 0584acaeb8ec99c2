/** What the writing thread and its parent say to each other: one task is one rank. */

import type { Answer } from '../../common/answer.js';
import type { SliceLayout } from '../graph/slice.js';
import type { FileEntry, OptimisedFor } from './manifest.js';
import type { SliceOrigin } from './slice-copy.js';

/** ONNX Runtime maps weights that start on a page; 4096 bytes also suits direct reads. */
export const ALIGNMENT_BYTES = 4096;

/** Name of a rank's weights file, in the rank's folder. ONNX Runtime wants external data in the graph's own folder. */
export const WEIGHTS_FILE = 'weights.bin';

/** Beside it: weights that shards of another size hold already, their file under a name of this directory's own. */
export const SHARED_FILE = 'shared.bin';

/** Of a weights file: the digest of each content and where it starts. */
export type Contents = readonly (readonly [digest: string, offset: number])[];

/** A weights file of other shards that is linked already. */
export interface SharedWeights {
  /** As it is listed here. */
  readonly entry: FileEntry;
  readonly contents: Contents;
}

export interface StoredSlice {
  /** In the weights file, in bytes; entries follow each other in ascending order. */
  readonly position: number;
  readonly origin: SliceOrigin;
  readonly layout: SliceLayout;
}

/** A segment graph as the bytes of its file; its large initializers lie in `WEIGHTS_FILE` beside it. */
export interface EncodedSegment {
  /** Relative to the shard directory. */
  readonly file: string;
  readonly graph: Uint8Array;
}

/** A segment with its own weights, which exist only while it is optimised. */
export interface RawSegment extends EncodedSegment {
  readonly slices: readonly StoredSlice[];
}

/** Writes a rank's segments as they are; its weights are its slices. */
export interface CopyRank {
  readonly kind: 'copy';
  readonly slices: readonly StoredSlice[];
  readonly segments: readonly EncodedSegment[];
}

/** Writes a rank's segments as ONNX Runtime optimises them; its weights are what is left then. */
export interface OptimiseRank {
  readonly kind: 'optimise';
  readonly prepared: OptimisedFor;
  readonly segments: readonly RawSegment[];
  readonly shared?: SharedWeights;
}

export type RankWork = CopyRank | OptimiseRank;

export interface RankPlace {
  /** The shard directory, absolute. */
  readonly directory: string;
  /** The rank's, relative to it; exists and is empty. */
  readonly folder: string;
}

/** Places in `WriteTask.shared`: bytes of slices copied so far, of all tasks together; not 0 once all are to stop. */
export const DONE_BYTES = 0;
export const STOP = 1;
export const SHARED_COUNTERS = 2;

export interface WriteTask extends RankPlace {
  readonly work: RankWork;
  /** Seen by all threads. */
  readonly shared: BigInt64Array<SharedArrayBuffer>;
}

/** The rank's entries for the manifest. */
export type WriteResult = Answer<readonly FileEntry[]>;

/** Slices that a rank's work copies, in bytes. */
export const workBytes = (work: RankWork): number => {
  const slices = work.kind === 'copy' ? work.slices : work.segments.flatMap((segment) => segment.slices);
  return slices.reduce((sum, { layout }) => sum + layout.bytes, 0);
};
