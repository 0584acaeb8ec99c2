/**
 * In which order to eliminate. The best order is hard to find, a greedy one is usually close to it, and none of the
 * greedy rules is best everywhere, so each is tried on the graph alone and the cheapest order wins. (Dechter 1999, section 3;
 * Koster, Bodlaender and van Hoesel 2001, "Treewidth: computational experiments", compare such rules.)
 */

import { combinations } from './cost-table.js';
import { ScoreHeap } from './heap.js';
import type { Limits, Step } from './limits.js';

/** Who meets whom; elimination joins the neighbours of what goes. */
type Meetings = Map<number, Set<number>>;

type Size = (variable: number) => number;

/** What is chosen next is the variable with the lowest score, by the second where the first is equal. */
type Rule = (meetings: Meetings, sizeOf: Size, variable: number) => readonly [number, number];

const neighbours = (meetings: Meetings, variable: number): Set<number> => meetings.get(variable) ?? new Set();

const bucketEntries = (meetings: Meetings, sizeOf: Size, variable: number): number =>
  combinations([variable, ...neighbours(meetings, variable)].map(sizeOf));

/** Sum over the pairs of neighbours that do not meet yet. */
const fill = (meetings: Meetings, variable: number, weigh: (a: number, b: number) => number): number => {
  const around = [...neighbours(meetings, variable)];
  return around.reduce((total, a, index) => {
    const met = neighbours(meetings, a);
    return around.slice(index + 1).reduce((sum, b) => (met.has(b) ? sum : sum + weigh(a, b)), total);
  }, 0);
};

const RULES: readonly Rule[] = [
  // Min-weight: the smallest bucket.
  (meetings, sizeOf, variable) => [bucketEntries(meetings, sizeOf, variable), fill(meetings, variable, () => 1)],
  // Min-fill: the fewest new meetings.
  (meetings, sizeOf, variable) => [fill(meetings, variable, () => 1), bucketEntries(meetings, sizeOf, variable)],
  // Weighted min-fill: the smallest new pair tables.
  (meetings, sizeOf, variable) => [
    fill(meetings, variable, (a, b) => sizeOf(a) * sizeOf(b)),
    bucketEntries(meetings, sizeOf, variable),
  ],
];

/** Takes the variable out and joins its neighbours, which are returned with all that they meet: whose score may differ. */
const takeOut = (meetings: Meetings, variable: number): { scope: number[]; affected: Set<number> } => {
  const scope = [...neighbours(meetings, variable)];
  meetings.delete(variable);
  const affected = new Set(scope);
  for (const a of scope) {
    const met = neighbours(meetings, a);
    met.delete(variable);
    for (const b of scope) if (b !== a) met.add(b);
  }
  for (const a of scope) for (const b of neighbours(meetings, a)) affected.add(b);
  return { scope, affected };
};

interface Order {
  readonly steps: readonly Step[];
  /** Size of the largest bucket. */
  readonly widest: number;
  /** Sum over all buckets. */
  readonly total: number;
}

/** Follows one rule to the end, or to the first bucket over the limit: it cannot be used, and others grow from it. */
const follow = (rule: Rule, pairs: ReadonlyMap<number, readonly number[]>, sizeOf: Size, limits: Limits): Order => {
  const meetings: Meetings = new Map([...pairs].map(([variable, others]) => [variable, new Set(others)]));
  const score = (variable: number): readonly [number, number] => rule(meetings, sizeOf, variable);
  const queue = new ScoreHeap();
  for (const variable of meetings.keys()) queue.push(variable, score(variable));
  const steps: Step[] = [];
  let [widest, total] = [0, 0];
  for (let variable = queue.pop(); variable !== undefined; variable = queue.pop()) {
    const entries = bucketEntries(meetings, sizeOf, variable);
    const { scope, affected } = takeOut(meetings, variable);
    for (const other of affected) queue.push(other, score(other));
    steps.push({ variable, scope });
    widest = Math.max(widest, entries);
    total += entries;
    if (widest > limits.bucketEntries) break;
  }
  return { steps, widest, total };
};

/** Whether an order is the better one: above all it must fit, then be the least work. */
const isBetter = (a: Order, b: Order, limits: Limits): boolean => {
  const [fitsA, fitsB] = [a.widest <= limits.bucketEntries, b.widest <= limits.bucketEntries];
  if (fitsA !== fitsB) return fitsA;
  return fitsA ? a.total < b.total : a.widest < b.widest;
};

/**
 * Orders the variables for elimination.
 * @param pairs each variable's neighbours
 * @param sizeOf number of states
 * @returns one step a variable; where no rule stays within `limits.bucketEntries`, the steps up to the bucket that does not.
 *   In each scope the variable that goes next is last, so that its states lie side by side in the table.
 */
export const findOrder = (
  pairs: ReadonlyMap<number, readonly number[]>,
  sizeOf: Size,
  limits: Limits,
): readonly Step[] => {
  const orders = RULES.map((rule) => follow(rule, pairs, sizeOf, limits));
  const { steps } = orders.reduce((best, order) => (isBetter(order, best, limits) ? order : best));
  const position = new Map(steps.map(({ variable }, index) => [variable, index]));
  const at = (variable: number): number => position.get(variable) ?? Number.POSITIVE_INFINITY;
  return steps.map(({ variable, scope }) => ({
    variable,
    scope: scope.toSorted((a, b) => (at(a) === at(b) ? a - b : at(b) - at(a))),
  }));
};
