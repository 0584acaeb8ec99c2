/** When a lost worker is started again, and when that is given up. Pure. */

export interface RestartPolicy {
  /** How often a rank may be started again without a finished step in between. */
  readonly maxAttempts: number;
  /** Wait before the first attempt, in ms; each further one waits twice as long. */
  readonly backoffMs: number;
  /** Longest wait, in ms. */
  readonly capMs: number;
}

export const DEFAULT_RESTART: RestartPolicy = { maxAttempts: 5, backoffMs: 200, capMs: 10_000 };

/** A group that was well for so long has outlived its last failure, even if nobody asked it for a step; ms. */
const FORGIVEN_AFTER_MS = 60_000;

/** Wait before attempt `attempt` (from 1), in ms. */
export const backoff = ({ backoffMs, capMs }: RestartPolicy, attempt: number): number =>
  Math.min(capMs, backoffMs * 2 ** (attempt - 1));

/** How often a rank was lost lately: since the last finished step, and since the group was last well for long. */
export class Losses {
  readonly #counts = new Map<number, number>();
  #readyAt: number | undefined;

  /** The group is whole; `now` is in ms. */
  ready(now: number): void {
    this.#readyAt = now;
  }

  stepped(): void {
    this.#counts.clear();
  }

  /** Counts a loss of `rank` at `now`, in ms. */
  add(rank: number, now: number): number {
    if (this.#readyAt !== undefined && now - this.#readyAt > FORGIVEN_AFTER_MS) this.#counts.clear();
    this.#readyAt = undefined;
    const count = (this.#counts.get(rank) ?? 0) + 1;
    this.#counts.set(rank, count);
    return count;
  }
}
