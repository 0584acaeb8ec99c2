/** Runs can be compared where they do the same work. */
import { TandemError } from '../../common/errors.js';
import type { BenchRun } from './contestant.js';

/**
 * @returns the first and the last
 * @throws TandemError `BENCH_RUNS` where there are none, or where their models or sizes differ
 */
export const checkComparable = <T extends BenchRun>(runs: readonly T[]): readonly [T, T] => {
  const [first] = runs;
  const last = runs.at(-1);
  if (!first || !last) throw new TandemError('BENCH_RUNS', 'Expected at least one run; found none.');
  const key = (run: BenchRun): string => JSON.stringify([run.model.path, Object.entries(run.dims).sort()]);
  const other = runs.find((run) => key(run) !== key(first));
  if (!other) return [first, last];
  const message = `Expected all runs to have the same model and sizes; "${first.name}" has ${key(first)}, "${other.name}" ${key(other)}.`;
  throw new TandemError('BENCH_RUNS', message);
};
