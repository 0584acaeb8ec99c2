/** The errors of the exact solver. */
import { TandemError } from '../../common/errors.js';

const INDEXES_SHOWN = 12;

const listIndexes = (indexes: readonly number[]): string =>
  indexes.length <= INDEXES_SHOWN ? indexes.join(', ') : `${indexes.slice(0, INDEXES_SHOWN).join(', ')}, ...`;

/** The cost graph contradicts itself: a caller's mistake. */
export const invalidGraph = (problems: readonly string[]): TandemError =>
  new TandemError(
    'PLAN_GRAPH_INVALID',
    `Expected a cost graph whose tables fit its domains, found ${problems.length} problem(s): ${problems[0]}. ` +
      'Build every table with one entry per state (or per pair of states), each a number or Infinity.',
    { problems },
  );

/** No choice of states avoids every forbidden combination. */
export const impossible = (detail: string): TandemError =>
  new TandemError(
    'PLAN_IMPOSSIBLE',
    `Expected at least one choice of states that no table forbids, found none: ${detail}. ` +
      'Give every variable a state that is always legal (replicated, say), or relax what forbids it.',
  );

/** One bucket of the elimination has more entries than the limit. */
export const bucketTooWide = (variables: readonly number[], entries: number, limit: number): TandemError =>
  new TandemError(
    'PLAN_TOO_WIDE',
    `Expected every bucket of the elimination to hold at most ${limit} entries, found one over ${variables.length} ` +
      `variables (${listIndexes(variables)}) with ${entries.toPrecision(3)}. ` +
      'Coarsen the graph: merge variables that follow each other, tie identical blocks, or offer fewer states.',
  );

/** Every bucket fits, but together they need too much of `what`. */
export const eliminationTooLarge = (what: string, found: number, limit: number): TandemError =>
  new TandemError(
    'PLAN_TOO_WIDE',
    `Expected the elimination to need at most ${limit} ${what}, found ${found.toPrecision(3)}. ` +
      'Coarsen the graph: merge variables that follow each other, tie identical blocks, or offer fewer states.',
  );
