/** Writes slices one behind the other, each at its position. */
import type { SliceCopier } from './slice-copy.js';
import { ALIGNMENT_BYTES, type StoredSlice } from './tasks.js';

/** Size of a copier's buffers for weights. */
export const BLOCK_BYTES = 8 * 1024 * 1024;

const PADDING = new Uint8Array(ALIGNMENT_BYTES);

/** A file, or anything else that grows at its end. */
export interface Appendable {
  /** Written so far. */
  readonly bytes: number;
  write(piece: Uint8Array): void;
}

/** Fills up to the next multiple of `ALIGNMENT_BYTES`. */
export const pad = (file: Appendable): void => file.write(PADDING.subarray(0, -file.bytes & (ALIGNMENT_BYTES - 1)));

/**
 * @param onBytes told of each piece's size once it is written
 * @throws TandemError WEIGHTS_MISSING, WEIGHTS_TOO_SHORT
 */
export const writeSlices = (
  file: Appendable,
  copier: SliceCopier,
  slices: readonly StoredSlice[],
  onBytes: (bytes: number) => void,
): void => {
  for (const { position, origin, layout } of slices) {
    file.write(PADDING.subarray(0, position - file.bytes));
    copier.copy(origin, layout, (piece) => {
      file.write(piece);
      onBytes(piece.byteLength);
    });
  }
};
