/** One progress figure out of several that rise at the same time: their sum. */

export interface Count {
  readonly done: number;
  readonly total: number;
}

export class ProgressSum {
  readonly #counts = new Map<string, Count>();

  /** Takes the count of one and returns the sum over all. */
  set(name: string, count: Count): Count {
    this.#counts.set(name, count);
    const counts = [...this.#counts.values()];
    return {
      done: counts.reduce((sum, { done }) => sum + done, 0),
      total: counts.reduce((sum, { total }) => sum + total, 0),
    };
  }
}
