/** The inside of a writing thread: slices, hashes and writes one rank's weights file in one pass. */
import { createHash, type Hash } from 'node:crypto';
import { closeSync, fsyncSync, openSync, writeSync } from 'node:fs';
import { SliceCopier } from '../slice-copy.js';
import { ALIGNMENT_BYTES, type StoredSlice, type WriteResult, type WriteTask } from './tasks.js';

const BLOCK_BYTES = 8 * 1024 * 1024;
const PADDING = new Uint8Array(ALIGNMENT_BYTES);

class HashedFile {
  bytes = 0;
  readonly #fd: number;
  readonly #hash: Hash = createHash('sha256');

  constructor(path: string) {
    this.#fd = openSync(path, 'wx');
  }

  write(piece: Uint8Array): void {
    this.#hash.update(piece);
    for (let done = 0; done < piece.byteLength; ) done += writeSync(this.#fd, piece, done);
    this.bytes += piece.byteLength;
  }

  /** The file's sha256, once it is on disk. */
  finish(): string {
    fsyncSync(this.#fd);
    return this.#hash.digest('hex');
  }

  close(): void {
    closeSync(this.#fd);
  }
}

const writeSlice = (
  file: HashedFile,
  copier: SliceCopier,
  slice: StoredSlice,
  progress: WriteTask['progress'],
): void => {
  file.write(PADDING.subarray(0, slice.position - file.bytes));
  copier.copy(slice.origin, slice.layout, (piece) => {
    file.write(piece);
    Atomics.add(progress, 0, BigInt(piece.byteLength));
  });
};

const writeWeights = ({ file: path, slices, progress }: WriteTask): WriteResult => {
  const copier = new SliceCopier(BLOCK_BYTES);
  const file = new HashedFile(path);
  try {
    for (const slice of slices) writeSlice(file, copier, slice, progress);
    return { kind: 'written', sha256: file.finish(), bytes: file.bytes };
  } finally {
    file.close();
    copier.close();
  }
};

/** The thread's task, called by the pool. */
export default (task: WriteTask): WriteResult => {
  try {
    return writeWeights(task);
  } catch (error) {
    const { code, message } = error as NodeJS.ErrnoException;
    return { kind: 'failed', code: code ?? 'WRITE_FAILED', message };
  }
};
