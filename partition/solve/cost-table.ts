/**
 * Cost tables over any number of variables, and the one operation on them: add up all tables that mention a variable
 * and minimise over that variable. Entries are addressed in mixed radix, so a table never needs transposing.
 */

/** A cost for each combination of states of `scope`; the entry of states `x` is at the sum of `x[i] * strides[i]`. */
export interface CostTable {
  readonly scope: readonly number[];
  readonly strides: readonly number[];
  readonly cost: Float64Array;
}

/** Index into a variable's states; 8 bits where they suffice, since these are kept until the end. */
export type BackPointers = Uint8Array | Uint16Array;

/** What is left when a variable has been minimised away; both tables are row-major over the scope that was asked for. */
export interface Message {
  readonly cost: Float64Array;
  /** The lowest state of the variable that attains each entry of `cost`. */
  readonly argmin: BackPointers;
}

/** Number of combinations of states. */
export const combinations = (sizes: readonly number[]): number => sizes.reduce((product, size) => product * size, 1);

/** A row-major table over `scope`, whose variables have `sizes` states. */
export const rowMajor = (scope: readonly number[], sizes: readonly number[], cost: Float64Array): CostTable => {
  const strides = new Array<number>(sizes.length);
  sizes.reduceRight((stride, size, axis) => {
    strides[axis] = stride;
    return stride * size;
  }, 1);
  return { scope, strides, cost };
};

/** Distance between neighbouring states of `variable`; 0 where the table does not mention it. */
export const strideOf = (table: CostTable, variable: number): number =>
  table.strides[table.scope.indexOf(variable)] ?? 0;

/** Bytes of one entry of a back-pointer table. */
export const backPointerBytes = (states: number): number => (states <= 256 ? 1 : 2);

const makeBackPointers = (states: number, entries: number): BackPointers =>
  backPointerBytes(states) === 1 ? new Uint8Array(entries) : new Uint16Array(entries);

/** A table with the place reached in it. */
interface Cursor {
  readonly cost: Float64Array;
  /** Stride of the variable that is minimised away. */
  readonly stride: number;
  /** Stride of each variable of the scope. */
  readonly steps: readonly number[];
  offset: number;
}

/** A variable of the scope, but the last: a loop of the sweep. */
interface Level {
  readonly size: number;
  /** Tables that mention this variable. */
  readonly moving: readonly Cursor[];
  /** Tables that mention this variable and none of a deeper loop: added here, once for all that lies deeper. */
  readonly complete: readonly Cursor[];
  /** Entries of the message for one state of this variable. */
  readonly block: number;
  /** `[states]`, scratch: the sum of all tables that are complete down to this loop. */
  readonly sums: Float64Array;
}

/** The last variable of the scope: the innermost loop. */
interface Row {
  readonly axis: number;
  readonly size: number;
  /** One of the tables that mention this variable, and the others. */
  readonly table: Cursor;
  readonly others: readonly Cursor[];
  /** `[states]`, scratch. */
  readonly sums: Float64Array;
}

interface Sweep {
  readonly states: number;
  readonly levels: readonly Level[];
  readonly row: Row;
  readonly message: Message;
  /** Entries of the message written so far. */
  written: number;
}

/** Sets `target` to `source` plus the cursors' rows; says whether any state is still allowed. */
const addRows = (target: Float64Array, source: Float64Array, cursors: readonly Cursor[]): boolean => {
  // Plain loops: on arrays this short the methods of typed arrays cost more than the work.
  for (let state = 0; state < target.length; state++) target[state] = source[state] as number;
  let isAllowed = false;
  for (const { cost, offset, stride } of cursors) {
    isAllowed = false;
    for (let state = 0, at = offset; state < target.length; state++, at += stride) {
      const sum = (target[state] as number) + (cost[at] as number);
      target[state] = sum;
      if (sum !== Number.POSITIVE_INFINITY) isAllowed = true;
    }
  }
  return isAllowed;
};

const advance = (cursors: readonly Cursor[], axis: number, states: number): void => {
  for (const cursor of cursors) cursor.offset += states * (cursor.steps[axis] as number);
};

/** One entry of the message per state of the last variable. `source` is `[states]`. */
const sweepRow = (sweep: Sweep, source: Float64Array): void => {
  const { states, row } = sweep;
  const { cost, argmin } = sweep.message;
  const { cost: table, offset, stride } = row.table;
  const step = row.table.steps[row.axis] as number;
  const isAlone = row.others.length === 0;
  const base = isAlone ? source : row.sums;
  for (let value = 0; value < row.size; value++, sweep.written++) {
    if (!isAlone) {
      addRows(base, source, row.others);
      advance(row.others, row.axis, 1);
    }
    let least = Number.POSITIVE_INFINITY;
    let best = 0;
    for (let state = 0, at = offset + value * step; state < states; state++, at += stride) {
      const sum = (base[state] as number) + (table[at] as number);
      if (sum < least) {
        least = sum;
        best = state;
      }
    }
    cost[sweep.written] = least;
    argmin[sweep.written] = best;
  }
  advance(row.others, row.axis, -row.size);
};

/** The loops from `axis` on. */
const sweepFrom = (sweep: Sweep, axis: number, source: Float64Array): void => {
  const level = sweep.levels[axis];
  if (level === undefined) {
    sweepRow(sweep, source);
    return;
  }
  const { size, moving, complete, block } = level;
  const sums = complete.length === 0 ? source : level.sums;
  for (let value = 0; value < size; value++) {
    if (complete.length === 0 || addRows(sums, source, complete)) sweepFrom(sweep, axis + 1, sums);
    else sweep.written += block;
    advance(moving, axis, 1);
  }
  advance(moving, axis, -size);
};

const lastAxis = ({ steps }: Cursor): number => steps.findLastIndex((step) => step !== 0);

const makeLevel = (cursors: readonly Cursor[], sizes: readonly number[], states: number, axis: number): Level => ({
  size: sizes[axis] as number,
  moving: cursors.filter(({ steps }) => steps[axis] !== 0),
  complete: cursors.filter((cursor) => lastAxis(cursor) === axis),
  block: combinations(sizes.slice(axis + 1)),
  sums: new Float64Array(states),
});

const makeRow = (cursors: readonly Cursor[], sizes: readonly number[], states: number): Row => {
  const axis = sizes.length - 1;
  const [table, ...others] = cursors.filter((cursor) => lastAxis(cursor) === axis);
  if (table === undefined) throw new RangeError('Expected each variable of the scope in a table, found one in none.');
  return { axis, size: sizes[axis] as number, table, others, sums: new Float64Array(states) };
};

const minimiseAlone = (sums: Float64Array): Message => {
  const best = sums.reduce((least, cost) => Math.min(least, cost), Number.POSITIVE_INFINITY);
  const argmin = makeBackPointers(sums.length, 1);
  argmin[0] = Math.max(0, sums.indexOf(best));
  return { cost: Float64Array.of(best), argmin };
};

/**
 * The sum of `tables`, minimised over `variable`, for each combination of states of `scope`.
 * Time is about the number of combinations times `states`: a table that does not mention the last variables of the
 * scope is added outside the loops over them, and blocks that are forbidden whole are skipped.
 * @param states how many states `variable` has
 * @param scope the other variables that the tables mention, each at least once
 * @param sizes how many states each variable of `scope` has
 */
export const minimiseOut = (
  variable: number,
  states: number,
  scope: readonly number[],
  sizes: readonly number[],
  tables: readonly CostTable[],
): Message => {
  const cursors = tables.map(
    (table): Cursor => ({
      cost: table.cost,
      stride: strideOf(table, variable),
      steps: scope.map((other) => strideOf(table, other)),
      offset: 0,
    }),
  );
  const own = new Float64Array(states);
  addRows(
    own,
    own,
    cursors.filter(({ steps }) => steps.every((step) => step === 0)),
  );
  if (scope.length === 0) return minimiseAlone(own);
  const entries = combinations(sizes);
  const message = {
    cost: new Float64Array(entries).fill(Number.POSITIVE_INFINITY),
    argmin: makeBackPointers(states, entries),
  };
  const levels = sizes.slice(0, -1).map((_, axis) => makeLevel(cursors, sizes, states, axis));
  sweepFrom({ states, levels, row: makeRow(cursors, sizes, states), message, written: 0 }, 0, own);
  return message;
};
