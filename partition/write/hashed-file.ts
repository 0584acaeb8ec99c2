/** Files that are hashed as they are written. */
import { createHash, type Hash } from 'node:crypto';
import { closeSync, fsyncSync, openSync, writeSync } from 'node:fs';
import { Checksum, checksumOf } from '../../common/checksum.js';
import type { FileEntry } from './manifest.js';

/** Of files that are written once: workers map them, and a byte that changes below a running one changes its pictures. */
export const READ_ONLY = process.platform === 'win32' ? undefined : 0o444;

/** All of a manifest's entry but the path. */
export type FileProof = Omit<FileEntry, 'path'>;

export const proofOf = (bytes: Uint8Array): FileProof => ({
  bytes: bytes.byteLength,
  sha256: createHash('sha256').update(bytes).digest('hex'),
  gmac: checksumOf(bytes),
});

/** A new file that grows at its end. Writes are synchronous: it is used in a thread. */
export class HashedFile {
  #bytes = 0;
  readonly #fd: number;
  readonly #hash: Hash = createHash('sha256');
  readonly #checksum = new Checksum();

  /** @throws NodeJS.ErrnoException, also where the file exists */
  constructor(path: string) {
    this.#fd = openSync(path, 'wx', READ_ONLY);
  }

  /** Written so far. */
  get bytes(): number {
    return this.#bytes;
  }

  write(piece: Uint8Array): void {
    this.#hash.update(piece);
    this.#checksum.update(piece);
    for (let done = 0; done < piece.byteLength; ) done += writeSync(this.#fd, piece, done);
    this.#bytes += piece.byteLength;
  }

  /** What proves the file, once it is on disk; the last call but `close`. */
  finish(): FileProof {
    fsyncSync(this.#fd);
    return { bytes: this.#bytes, sha256: this.#hash.digest('hex'), gmac: this.#checksum.digest() };
  }

  close(): void {
    closeSync(this.#fd);
  }
}
