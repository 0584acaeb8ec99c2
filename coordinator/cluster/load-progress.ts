/** One progress figure out of many ranks': the sum over those that have reported. */

export class LoadProgress {
  readonly #stages = new Map<string, Map<number, { readonly done: number; readonly total: number }>>();

  /** Takes a rank's report and returns the stage's sum. */
  add(rank: number, stage: string, done: number, total: number): { done: number; total: number } {
    const ranks = this.#stages.get(stage) ?? new Map<number, { readonly done: number; readonly total: number }>();
    this.#stages.set(stage, ranks);
    ranks.set(rank, { done, total });
    const reports = [...ranks.values()];
    return {
      done: reports.reduce((sum, report) => sum + report.done, 0),
      total: reports.reduce((sum, report) => sum + report.total, 0),
    };
  }
}
