/** Frames that a rank could not use: counted, and told of once in a while, so that whoever sends many fills no log. */

/** Not more often than this, in ms. */
const TELL_MS = 10_000;

export class DroppedFrames {
  #count = 0;
  #last = '';
  #toldAt = Number.NEGATIVE_INFINITY;

  get count(): number {
    return this.#count;
  }

  /** For an error's message; empty where there were none. */
  get summary(): string {
    return this.#count === 0 ? '' : ` ${this.#count} frames were dropped so far, the last because: ${this.#last}`;
  }

  add(error: unknown): void {
    this.#count += 1;
    this.#last = error instanceof Error ? error.message : String(error);
    const now = performance.now();
    if (now - this.#toldAt < TELL_MS) return;
    this.#toldAt = now;
    process.stderr.write(`Dropped ${this.#count} frames so far. ${this.#last}\n`);
  }
}
