/** How much an elimination may need. */

import { backPointerBytes, combinations } from './cost-table.js';
import { bucketTooWide, eliminationTooLarge } from './errors.js';

export interface Limits {
  /** Combinations of states of a variable and all that it meets when it is eliminated. */
  readonly bucketEntries: number;
  /** Sum over all buckets; the time goes with it, at about 8 ns an entry (a grid of 6 x 833 variables on one CPU core). */
  readonly totalEntries: number;
  /** Peak of the tables that elimination makes, beside the problem itself, in bytes. */
  readonly bytes: number;
}

/** A large plan still fits a small machine and ends after about a minute. */
export const DEFAULT_LIMITS: Limits = { bucketEntries: 2 ** 26, totalEntries: 2 ** 33, bytes: 2 ** 31 };

/** One elimination: `variable` goes, and leaves a table over `scope`. */
export interface Step {
  readonly variable: number;
  readonly scope: readonly number[];
}

/** @throws TandemError PLAN_TOO_WIDE when one bucket holds too many entries */
export const checkBucket = ({ variable, scope }: Step, sizeOf: (variable: number) => number, limits: Limits): void => {
  const variables = [variable, ...scope];
  const entries = combinations(variables.map(sizeOf));
  if (entries > limits.bucketEntries) throw bucketTooWide(variables, entries, limits.bucketEntries);
};

/** Where in the elimination each variable goes. */
export const positions = (steps: readonly Step[]): ReadonlyMap<number, number> =>
  new Map(steps.map(({ variable }, position) => [variable, position]));

/** The first variable of a table to be eliminated, hence the bucket that the table falls into; none for a constant. */
export const nextPosition = (scope: readonly number[], position: ReadonlyMap<number, number>): number | undefined =>
  scope.length === 0
    ? undefined
    : Math.min(...scope.map((variable) => position.get(variable) ?? Number.POSITIVE_INFINITY));

/** Peak bytes: back-pointers stay to the end, a message until its bucket is done. */
const peakBytes = (steps: readonly Step[], sizeOf: (variable: number) => number): number => {
  const position = positions(steps);
  const freed = new Float64Array(steps.length);
  let [held, peak] = [0, 0];
  for (const [at, { variable, scope }] of steps.entries()) {
    const entries = combinations(scope.map(sizeOf));
    held += entries * (Float64Array.BYTES_PER_ELEMENT + backPointerBytes(sizeOf(variable)));
    peak = Math.max(peak, held);
    held -= freed[at] as number;
    const consumer = nextPosition(scope, position);
    if (consumer !== undefined)
      freed[consumer] = (freed[consumer] as number) + entries * Float64Array.BYTES_PER_ELEMENT;
  }
  return peak;
};

/** @throws TandemError PLAN_TOO_WIDE when a bucket or the whole elimination is over a limit; nothing is allocated before */
export const checkSteps = (steps: readonly Step[], sizeOf: (variable: number) => number, limits: Limits): void => {
  for (const step of steps) checkBucket(step, sizeOf, limits);
  const entries = steps.reduce((sum, { variable, scope }) => sum + combinations([variable, ...scope].map(sizeOf)), 0);
  if (entries > limits.totalEntries)
    throw eliminationTooLarge('entries in all buckets together', entries, limits.totalEntries);
  const bytes = peakBytes(steps, sizeOf);
  if (bytes > limits.bytes) throw eliminationTooLarge('bytes of tables', bytes, limits.bytes);
};
