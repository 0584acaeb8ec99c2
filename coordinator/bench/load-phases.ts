/** Tells a cluster's load phases from its progress: first nothing, then `check` (bytes) and `load` (segments) side by side. */

export class LoadPhases {
  readonly #start = performance.now();
  #begun: number | undefined;
  readonly #ends = new Map<string, number>();

  /** Takes a progress report. Ranks report one after the other that all of theirs is done: the last one counts. */
  add(stage: string, done: number, total: number): void {
    const now = performance.now();
    this.#begun ??= now;
    if (done >= total) this.#ends.set(stage, now);
  }

  /** ms; `read` and `session` begin at the same time. */
  summary(): { readonly process: number; readonly read: number; readonly session: number } {
    const begun = this.#begun ?? this.#start;
    const since = (stage: string): number => (this.#ends.get(stage) ?? begun) - begun;
    return { process: begun - this.#start, read: since('check'), session: since('load') };
  }
}
