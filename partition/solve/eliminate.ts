/**
 * The exact solver: minimises a sum of tables over discrete variables by non-serial dynamic programming, as Bertelè and
 * Brioschi described it ("Nonserial Dynamic Programming", 1972), in the form known as bucket elimination (Dechter 1999,
 * "Bucket elimination: a unifying framework for reasoning", Artificial Intelligence 113). Time and memory are exponential only in the width of the
 * graph, which is small for layered networks with skip connections: 3 to 8.
 *
 *     check -> reduce (reduce.ts) -> order (order.ts) -> eliminate buckets (cost-table.ts) -> trace back (traceback.ts)
 *
 * What is too wide is divided: a variable is fixed in each of its states, and the best of these problems wins, which is exact too
 * (cutset conditioning, Dechter 1990, "Enhancement schemes for constraint processing", Artificial Intelligence 41).
 */
import { TandemError } from '../../common/errors.js';
import { type CostGraph, checkGraph, costOf } from './cost-graph.js';
import { type CostTable, minimiseOut, rowMajor } from './cost-table.js';
import { impossible } from './errors.js';
import { checkSteps, DEFAULT_LIMITS, type Limits, nextPosition, positions, type Step } from './limits.js';
import { findOrder } from './order.js';
import { reduceGraph } from './reduce.js';
import { type Decision, traceBack } from './traceback.js';
import { Workspace } from './workspace.js';

export type { CostGraph, PairCost } from './cost-graph.js';
export { DEFAULT_LIMITS, type Limits } from './limits.js';

/** The best choice of states and what it costs. */
export interface Minimum {
  readonly cost: number;
  /** `[variables]`, each variable's state by its index in the domain. */
  readonly choice: Int32Array;
}

/** Each table that is left, once, in the bucket of the first of its variables to go. */
const fillBuckets = (
  workspace: Workspace,
  steps: readonly Step[],
  position: ReadonlyMap<number, number>,
): CostTable[][] => {
  const buckets = steps.map((): CostTable[] => []);
  for (const [at, { variable }] of steps.entries()) {
    for (const table of workspace.tables(variable)) {
      if (nextPosition(table.scope, position) === at) buckets[at]?.push(table);
    }
  }
  return buckets;
};

/** In which order to eliminate what the reductions left. */
const orderOf = (workspace: Workspace, limits: Limits): readonly Step[] => {
  const pairs = new Map([...workspace.remaining].map((variable) => [variable, workspace.neighbours(variable)]));
  return pairs.size === 0 ? [] : findOrder(pairs, (variable) => workspace.size(variable), limits);
};

/** Eliminates what the reductions left. */
const eliminateBuckets = (workspace: Workspace, steps: readonly Step[], limits: Limits): Decision[] => {
  const sizeOf = (variable: number): number => workspace.size(variable);
  checkSteps(steps, sizeOf, limits);
  const position = positions(steps);
  const buckets = fillBuckets(workspace, steps, position);
  return steps.map(({ variable, scope }, at) => {
    const sizes = scope.map(sizeOf);
    const { cost, argmin } = minimiseOut(variable, sizeOf(variable), scope, sizes, buckets[at] ?? []);
    buckets[at] = [];
    buckets[nextPosition(scope, position) ?? -1]?.push(rowMajor(scope, sizes, cost));
    const scopeStates = scope.map((other) => workspace.states(other));
    return { variable, states: workspace.states(variable), scope, scopeStates, argmin };
  });
};

/** Ways to fix variables that are gone through, each about as long as a problem that is narrow enough. */
const MOST_WAYS = 64;

/**
 * The variable to fix where a bucket is too wide: the one that meets most of the bucket's, for with its state theirs are mostly
 * known. So what all blocks of a network read is, the parts that one Split gives of the modulations of FLUX.2.
 */
const findPivot = (workspace: Workspace, { variable, scope }: Step, ways: number): number | undefined => {
  const wide = new Set([variable, ...scope]);
  const meets = (other: number) => workspace.neighbours(other).filter((one) => wide.has(one)).length;
  const candidates = new Set([...wide, ...[...wide].flatMap((one) => workspace.neighbours(one))]);
  return [...candidates]
    .filter((other) => workspace.size(other) <= ways)
    .map((other) => ({ other, met: meets(other), size: workspace.size(other) }))
    .sort((a, b) => b.met - a.met || a.size - b.size || a.other - b.other)
    .at(0)?.other;
};

const isImpossible = (error: unknown): boolean => error instanceof TandemError && error.code === 'PLAN_IMPOSSIBLE';

/** The part of a problem that is left, with what was decided of the others. */
interface Rest {
  readonly problem: CostGraph;
  readonly workspace: Workspace;
  readonly decisions: readonly Decision[];
  /** How many ways to fix a variable may still be tried. */
  readonly ways: number;
}

/** The best of the ways in which a variable can be fixed; those that are forbidden do not count. */
const fixed = (rest: Rest, pivot: number, limits: Limits): Minimum => {
  const size = rest.workspace.size(pivot);
  const found = Array.from({ length: size }, (_, state) => {
    const workspace = rest.workspace.copy();
    try {
      workspace.keepStates(pivot, [state]);
      return solveRest({ ...rest, workspace, ways: rest.ways / size }, limits);
    } catch (error) {
      if (isImpossible(error)) return undefined;
      throw error;
    }
  }).filter((one) => one !== undefined);
  const [best] = found.sort((a, b) => a.cost - b.cost);
  if (!best) throw impossible(`every state of variable ${pivot} is forbidden by what it leads to`);
  return best;
};

/** Reduces and eliminates; where that is too wide, fixes a variable in each of its states and does so with each. */
const solveRest = (rest: Rest, limits: Limits): Minimum => {
  const { problem, workspace, ways } = rest;
  const decisions = [...rest.decisions, ...reduceGraph(workspace, limits)];
  const steps = orderOf(workspace, limits);
  const last = steps.at(-1);
  const isWhole = steps.length === workspace.remaining.size;
  const pivot = last && !isWhole ? findPivot(workspace, last, ways) : undefined;
  if (pivot !== undefined) return fixed({ ...rest, decisions }, pivot, limits);
  const choice = traceBack([...decisions, ...eliminateBuckets(workspace, steps, limits)]);
  const cost = costOf(problem, choice);
  if (cost !== Number.POSITIVE_INFINITY) return { cost, choice };
  throw impossible('every state has an allowed partner, but no choice of all states is allowed');
};

/**
 * Finds the choice of one state for each variable whose sum of costs is least. The optimum is exact up to the rounding
 * of float64 sums. Of equally good states each variable takes the lowest, given the variables that were eliminated
 * after it; the order of elimination depends on nothing but the problem, and so does the answer.
 * @param problem its arrays are read, never written
 * @param limits bounds on time and memory, checked before any large table is made
 * @throws TandemError PLAN_GRAPH_INVALID when a table does not fit, PLAN_IMPOSSIBLE when every choice is forbidden,
 *   PLAN_TOO_WIDE when the graph is too densely connected for the limits
 */
export const minimise = (problem: CostGraph, limits: Limits = DEFAULT_LIMITS): Minimum => {
  checkGraph(problem);
  return solveRest({ problem, workspace: new Workspace(problem), decisions: [], ways: MOST_WAYS }, limits);
};
