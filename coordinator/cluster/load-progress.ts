/** One progress figure a stage out of many ranks': the sum over those that have reported. */
import { type Count, ProgressSum } from '../../shard-worker/progress-sum.js';

export class LoadProgress {
  readonly #stages = new Map<string, ProgressSum>();

  /** Takes a rank's report and returns the stage's sum. */
  add(rank: number, stage: string, done: number, total: number): Count {
    const sum = this.#stages.get(stage) ?? new ProgressSum();
    this.#stages.set(stage, sum);
    return sum.set(String(rank), { done, total });
  }
}
