/**
 * Random access to a file of any size through one small buffer. Reads are synchronous: walking a graph takes tens of
 * thousands of reads of a few bytes, nearly all of which the buffer answers, and an await for each would cost more
 * than the reads.
 */
import { closeSync, fstatSync, openSync, readSync } from 'node:fs';

const WINDOW_BYTES = 64 * 1024;

export class FileWindow {
  /** Size of the file in bytes. */
  readonly size: number;
  readonly #fd: number;
  readonly #buffer = new Uint8Array(WINDOW_BYTES);
  #start = 0;
  #length = 0;

  constructor(path: string) {
    this.#fd = openSync(path, 'r');
    this.size = fstatSync(this.#fd).size;
  }

  /** The byte at an offset, or undefined past the end of the file. */
  byte(offset: number): number | undefined {
    if (offset < this.#start || offset >= this.#start + this.#length) this.#fill(offset);
    const index = offset - this.#start;
    return index < this.#length ? this.#buffer[index] : undefined;
  }

  /** A copy of `[start, end)`, which must lie inside the file. */
  bytes(start: number, end: number): Uint8Array {
    const copy = new Uint8Array(end - start);
    if (start >= this.#start && end <= this.#start + this.#length) {
      copy.set(this.#buffer.subarray(start - this.#start, end - this.#start));
    } else {
      readFully(this.#fd, copy, start);
    }
    return copy;
  }

  close(): void {
    closeSync(this.#fd);
  }

  #fill(offset: number): void {
    this.#start = offset;
    this.#length = readSync(this.#fd, this.#buffer, 0, WINDOW_BYTES, offset);
  }
}

/**
 * Fills `target` from the file, however many reads that takes.
 * @throws RangeError when the file ends first
 */
export const readFully = (fd: number, target: Uint8Array, position: number): void => {
  let done = 0;
  while (done < target.byteLength) {
    const count = readSync(fd, target, done, target.byteLength - done, position + done);
    if (count === 0) throw new RangeError(`The file ended at byte ${position + done}.`);
    done += count;
  }
};
