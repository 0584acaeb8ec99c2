/** Watches what the disk delivers to processes, and when it had delivered it. */
import { bytesFromDisk } from './page-cache.js';

const LOOK_MS = 20;
/** Of all bytes: a few pages are always touched late, which says nothing of how fast a model was read. */
const NEARLY_ALL = 0.99;

interface Sample {
  readonly at: number;
  readonly bytes: number;
}

export interface DiskReading {
  readonly bytes: number;
  /** From the first process's start until nearly all bytes were there, all that was done meanwhile included; ms */
  readonly ms: number;
}

/** What the disk delivered to all of them together; undefined where the system does not say. */
const total = (pids: readonly number[]): number | undefined =>
  pids
    .map(bytesFromDisk)
    .reduce<number | undefined>(
      (sum, bytes) => (sum === undefined || bytes === undefined ? undefined : sum + bytes),
      0,
    );

export class DiskWatch {
  readonly #begin: number;
  readonly #pids: () => readonly number[];
  readonly #samples: Sample[] = [];
  readonly #timer: NodeJS.Timeout;

  /**
   * @param pids processes that have just become ready
   * @param begin when the first of them was started, as `performance.now()` has it
   */
  constructor(pids: () => readonly number[], begin: number) {
    this.#pids = pids;
    this.#begin = begin;
    this.#look();
    this.#timer = setInterval(() => this.#look(), LOOK_MS);
  }

  /** Ends the watch. @returns undefined where the system does not say what a process read */
  stop(): DiskReading | undefined {
    clearInterval(this.#timer);
    this.#look();
    const bytes = this.#samples.at(-1)?.bytes;
    if (bytes === undefined) return undefined;
    const reached = this.#samples.find((sample) => sample.bytes >= NEARLY_ALL * bytes);
    return { bytes, ms: (reached?.at ?? performance.now()) - this.#begin };
  }

  #look(): void {
    const bytes = total(this.#pids());
    if (bytes !== undefined) this.#samples.push({ at: performance.now(), bytes });
  }
}
