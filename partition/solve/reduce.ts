/**
 * Reductions that keep the optimum and leave a smaller problem over pairs:
 * - arc consistency: a state that is forbidden, or forbidden with all states of a neighbour, goes;
 * - a variable with one state left is folded into its neighbours' own costs;
 * - a variable with at most two neighbours is eliminated: its table falls on a variable or on a pair;
 * - a dominated state goes (dead-end elimination; Goldstein 1994, "Efficient rotamer elimination applied to protein
 *   side-chains and related spin glasses", Biophysical Journal 66).
 */

import { minimiseOut } from './cost-table.js';
import { checkBucket, type Limits } from './limits.js';
import type { Decision } from './traceback.js';
import type { Workspace } from './workspace.js';

/** Variables with more neighbours than this would leave a table over more than a pair. */
const MAX_DEGREE = 2;

const indexes = (length: number): number[] => Array.from({ length }, (_, index) => index);

/** Drops the states that can be in no allowed choice. */
const dropUnsupported = (workspace: Workspace, variable: number): void => {
  const unary = workspace.unary(variable);
  const neighbours = workspace.neighbours(variable);
  const isSupported = (state: number): boolean =>
    unary[state] !== Number.POSITIVE_INFINITY &&
    neighbours.every((other) => workspace.isSupported(variable, state, other));
  workspace.keepStates(variable, indexes(unary.length).filter(isSupported));
};

/** Moves what the only state of a variable costs its neighbours into their own costs. */
const foldFixed = (workspace: Workspace, variable: number): Decision => {
  for (const other of workspace.neighbours(variable)) workspace.addUnary(other, workspace.row(variable, 0, other));
  const states = workspace.states(variable);
  workspace.remove(variable);
  return { variable, states, scope: [], scopeStates: [], argmin: Uint8Array.of(0) };
};

/** Eliminates a variable with at most two neighbours. */
const foldFollower = (workspace: Workspace, variable: number, limits: Limits): Decision => {
  const sizeOf = (other: number): number => workspace.size(other);
  const scope = workspace.neighbours(variable);
  checkBucket({ variable, scope }, sizeOf, limits);
  const states = workspace.states(variable);
  const tables = workspace.tables(variable);
  const { cost, argmin } = minimiseOut(variable, states.length, scope, scope.map(sizeOf), tables);
  workspace.remove(variable);
  const [a, b] = scope;
  if (a !== undefined && b !== undefined) workspace.addPair(a, b, cost);
  else if (a !== undefined) workspace.addUnary(a, cost);
  return { variable, states, scope, scopeStates: scope.map((other) => workspace.states(other)), argmin };
};

/** Takes up all changes since the last call, with the changes that they lead to in turn. */
const propagate = (workspace: Workspace): Set<number> => {
  const affected = new Set<number>();
  for (let changed = workspace.takeChanged(); changed.length > 0; changed = workspace.takeChanged()) {
    for (const variable of changed) {
      affected.add(variable);
      dropUnsupported(workspace, variable);
    }
  }
  return affected;
};

/** First in, first out, each once. A set would look through all that has left it to find its first. */
class Queue {
  readonly #items: number[] = [];
  readonly #members = new Set<number>();
  #head = 0;

  add(variable: number): void {
    if (this.#members.has(variable)) return;
    this.#members.add(variable);
    this.#items.push(variable);
  }

  delete(variable: number): void {
    this.#members.delete(variable);
  }

  get first(): number | undefined {
    while (this.#head < this.#items.length && !this.#members.has(this.#items[this.#head] as number)) this.#head += 1;
    return this.#items[this.#head];
  }
}

/**
 * Eliminates what is easy until nothing is; leaves before chain links, since they leave no pair behind.
 * @returns the variables whose costs or states changed
 */
const peel = (workspace: Workspace, limits: Limits, decisions: Decision[]): Set<number> => {
  const touched = new Set<number>();
  const [leaves, links] = [new Queue(), new Queue()];
  const enqueue = (): void => {
    for (const variable of propagate(workspace)) {
      touched.add(variable);
      const degree = workspace.degree(variable);
      if (degree <= 1 || workspace.size(variable) === 1) leaves.add(variable);
      else if (degree <= MAX_DEGREE) links.add(variable);
    }
  };
  const next = (): number | undefined => leaves.first ?? links.first;
  enqueue();
  for (let variable = next(); variable !== undefined; variable = next()) {
    leaves.delete(variable);
    links.delete(variable);
    decisions.push(
      workspace.size(variable) === 1 ? foldFixed(workspace, variable) : foldFollower(workspace, variable, limits),
    );
    enqueue();
  }
  return touched;
};

/** The least that `state` costs more than `other` with any state of the neighbour whose rows these are. */
const leastExcess = (state: Float64Array, other: Float64Array): number => {
  let least = Number.POSITIVE_INFINITY;
  for (let index = 0; index < state.length; index++) {
    if (state[index] !== Number.POSITIVE_INFINITY)
      least = Math.min(least, (state[index] as number) - (other[index] as number));
  }
  return least;
};

const indexOfLeast = (row: Float64Array): number =>
  row.reduce((best, value, index) => (value < (row[best] as number) ? index : best), 0);

/** A variable's costs laid out by state. */
interface Rows {
  readonly unary: Float64Array;
  /** `[state][neighbour]`, each over the neighbour's states. */
  readonly rows: readonly (readonly Float64Array[])[];
  /** `[state][neighbour]`: the neighbour's state that suits this state best. */
  readonly favourites: readonly (readonly number[])[];
}

const layOut = (workspace: Workspace, variable: number): Rows => {
  const unary = workspace.unary(variable);
  const neighbours = workspace.neighbours(variable);
  const rows = indexes(unary.length).map((state) => neighbours.map((other) => workspace.row(variable, state, other)));
  return { unary, rows, favourites: rows.map((own) => own.map(indexOfLeast)) };
};

/**
 * Whether `other` is at least as good as `state` whatever the neighbours do; of two equals the lower state counts as better.
 * The neighbours' favourites bound the excess from above and settle most pairs without the full minimum.
 */
const isDominated = ({ unary, rows, favourites }: Rows, state: number, other: number): boolean => {
  const own = (unary[state] as number) - (unary[other] as number);
  const [mine, theirs, favourite] = [rows[state] ?? [], rows[other] ?? [], favourites[state] ?? []];
  const excess = (of: (a: Float64Array, b: Float64Array, neighbour: number) => number): number =>
    mine.reduce((sum, row, neighbour) => sum + of(row, theirs[neighbour] as Float64Array, neighbour), own);
  const isWorse = (margin: number): boolean => margin > 0 || (margin === 0 && other < state);
  const atFavourites = excess((a, b, neighbour) => {
    const index = favourite[neighbour] as number;
    return (a[index] as number) - (b[index] as number);
  });
  return isWorse(atFavourites) && isWorse(excess(leastExcess));
};

/** The states left of a variable once each dominated one is gone; what is gone dominates nothing. */
const undominated = (workspace: Workspace, variable: number): number[] => {
  const layout = layOut(workspace, variable);
  const kept = new Set(indexes(layout.unary.length));
  for (const state of indexes(layout.unary.length)) {
    for (const other of kept) {
      if (other !== state && isDominated(layout, state, other)) {
        kept.delete(state);
        break;
      }
    }
  }
  return [...kept];
};

/**
 * Reduces the problem in place until no reduction applies.
 * @returns the decisions for the variables that are gone, in the order in which they went
 * @throws TandemError PLAN_IMPOSSIBLE when a variable has no state left, PLAN_TOO_WIDE from `checkBucket`
 */
export const reduceGraph = (workspace: Workspace, limits: Limits): Decision[] => {
  const decisions: Decision[] = [];
  for (
    let touched = peel(workspace, limits, decisions);
    touched.size > 0;
    touched = peel(workspace, limits, decisions)
  ) {
    for (const variable of touched) {
      if (workspace.remaining.has(variable)) workspace.keepStates(variable, undominated(workspace, variable));
    }
  }
  return decisions;
};
