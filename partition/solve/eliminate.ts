/**
 * The exact solver: minimises a sum of tables over discrete variables by non-serial dynamic programming, as Bertelè and
 * Brioschi described it ("Nonserial Dynamic Programming", 1972), in the form known as bucket elimination (Dechter 1999,
 * "Bucket elimination: a unifying framework for reasoning", Artificial Intelligence 113). Time and memory are exponential only in the width of the
 * graph, which is small for layered networks with skip connections: 3 to 8.
 *
 *     check -> reduce (reduce.ts) -> order (order.ts) -> eliminate buckets (cost-table.ts) -> trace back (traceback.ts)
 */

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

/** Eliminates what the reductions left. */
const eliminateBuckets = (workspace: Workspace, limits: Limits): Decision[] => {
  const sizeOf = (variable: number): number => workspace.size(variable);
  const pairs = new Map([...workspace.remaining].map((variable) => [variable, workspace.neighbours(variable)]));
  if (pairs.size === 0) return [];
  const steps = findOrder(pairs, sizeOf, limits);
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
  const workspace = new Workspace(problem);
  const reduced = reduceGraph(workspace, limits);
  const choice = traceBack([...reduced, ...eliminateBuckets(workspace, limits)]);
  const cost = costOf(problem, choice);
  if (cost === Number.POSITIVE_INFINITY)
    throw impossible('every state has an allowed partner, but no choice of all states is allowed');
  return { cost, choice };
};
