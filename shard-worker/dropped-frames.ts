/** Frames that a rank could not use. */
import { Rarely } from '../common/rarely.js';

export class DroppedFrames {
  readonly #told = new Rarely((message) => process.stderr.write(`${message}\n`));
  #last = '';

  get count(): number {
    return this.#told.count;
  }

  /** For an error's message; empty where there were none. */
  get summary(): string {
    return this.count === 0 ? '' : ` ${this.count} frames were dropped so far, the last because: ${this.#last}`;
  }

  add(error: unknown): void {
    this.#last = error instanceof Error ? error.message : String(error);
    this.#told.add((count) => `Dropped ${count} frames so far. ${this.#last}`);
  }
}
