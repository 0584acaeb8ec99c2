/** A file that is gone in a moment: neither hashed nor flushed. */
import { closeSync, openSync, writeSync } from 'node:fs';
import type { Appendable } from '../write-slices.js';

export class ScratchFile implements Appendable {
  #bytes = 0;
  readonly #fd: number;

  /** @throws NodeJS.ErrnoException, also where the file exists */
  constructor(path: string) {
    this.#fd = openSync(path, 'wx');
  }

  get bytes(): number {
    return this.#bytes;
  }

  write(piece: Uint8Array): void {
    for (let done = 0; done < piece.byteLength; ) done += writeSync(this.#fd, piece, done);
    this.#bytes += piece.byteLength;
  }

  close(): void {
    closeSync(this.#fd);
  }
}
