/** What others may cause as often as they like: counted, and told of once in a while, so that nobody fills a log with it. */

/** Not more often than this, in ms. */
const TELL_MS = 10_000;

export class Rarely {
  readonly #tell: (message: string) => void;
  #count = 0;
  #toldAt = Number.NEGATIVE_INFINITY;

  constructor(tell: (message: string) => void) {
    this.#tell = tell;
  }

  get count(): number {
    return this.#count;
  }

  /** @param message what to say, by how many there were so far */
  add(message: (count: number) => string): void {
    this.#count += 1;
    const now = performance.now();
    if (now - this.#toldAt < TELL_MS) return;
    this.#toldAt = now;
    this.#tell(message(this.#count));
  }
}
