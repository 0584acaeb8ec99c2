/**
 * A rank's canary: one of its segments after the other is rehearsed between steps, for as long as the worker lives, and must give what
 * it gave right after it was loaded. So weights that have changed in memory or on a device are found, which a look at their files
 * cannot, and ranks that agree cannot either: all of them add up the same wrong partial sums.
 */
import { setTimeout as delay } from 'node:timers/promises';
import { TandemError } from '../common/errors.js';

/** Between two segments, once all have been rehearsed for the first time; and at most a hundredth of the time goes into this, however large they are. */
const PAUSE_MS = 250;
const SHARE = 100;

export interface Rehearsing {
  /** Numbers of the segments that are loaded. */
  readonly loaded: readonly number[];
  /** @returns a digest of what the segment computes; undefined where it cannot be run by itself */
  rehearse(segment: number): Promise<string | undefined>;
}

const changed = (segment: number): TandemError =>
  new TandemError(
    'SEGMENT_CHANGED',
    `Segment ${segment} computes something else than it did right after it was loaded, twice: expected the same outputs for the same inputs. Its weights, or the memory that holds them, have changed; if it happens again, test the machine's memory.`,
  );

class Canary {
  readonly #rank: Rehearsing;
  /** By segment; undefined for one that has none, or not the same twice, as kernels of some devices. */
  readonly #known = new Map<number, string | undefined>();

  constructor(rank: Rehearsing) {
    this.#rank = rank;
  }

  /** @returns whether it was the first time */
  async look(segment: number): Promise<boolean> {
    const found = await this.#rank.rehearse(segment);
    if (!this.#known.has(segment)) {
      const again = await this.#rank.rehearse(segment);
      this.#known.set(segment, found === again ? found : undefined);
      return true;
    }
    const known = this.#known.get(segment);
    if (known === undefined || found === known) return false;
    if ((await this.#rank.rehearse(segment)) !== known) throw changed(segment);
    return false;
  }
}

/**
 * Watches over what a rank computes.
 * @returns never
 * @throws TandemError `SEGMENT_CHANGED` once a segment computes something else; of the compute thread where one cannot run
 */
export const watchSegments = async (rank: Rehearsing): Promise<never> => {
  const canary = new Canary(rank);
  for (let turn = 0; ; turn++) {
    const { loaded } = rank;
    const begun = performance.now();
    const segment = loaded[turn % Math.max(1, loaded.length)];
    if (segment !== undefined && (await canary.look(segment))) continue;
    const pause = Math.max(PAUSE_MS, (performance.now() - begun) * SHARE);
    await delay(pause, undefined, { ref: false });
  }
};
