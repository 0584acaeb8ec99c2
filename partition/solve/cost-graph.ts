/** The problem that the solver takes: discrete variables with a cost per state and a cost per pair of states. */
import { invalidGraph } from './errors.js';

/** Back-pointers are kept in 16 bits at most. */
const MAX_DOMAIN = 65_536;

/** The cost of two variables together. */
export interface PairCost {
  readonly a: number;
  readonly b: number;
  /** `[domains[a], domains[b]]`, row-major; `Infinity` forbids the combination. */
  readonly cost: Float64Array;
}

/**
 * A sum of tables over discrete variables, which are named by their index. Several tables over the same two variables
 * add up, in either orientation; a table of a variable with itself counts by its diagonal.
 */
export interface CostGraph {
  /** Number of states of each variable, 1 to 65,536. */
  readonly domains: readonly number[];
  /** `[domains[v]]` for each variable `v`; `Infinity` forbids the state. */
  readonly unary: readonly Float64Array[];
  readonly pairs: readonly PairCost[];
}

const isCost = (value: number): boolean => value > Number.NEGATIVE_INFINITY;

const checkTable = (name: string, cost: Float64Array | undefined, entries: number): string[] => {
  if (cost?.length !== entries) return [`${name} should have ${entries} entries and has ${cost?.length ?? 'no table'}`];
  return cost.every(isCost) ? [] : [`${name} holds NaN or -Infinity`];
};

const checkDomain = (size: number, variable: number): string[] =>
  Number.isInteger(size) && size >= 1 && size <= MAX_DOMAIN
    ? []
    : [`variable ${variable} should have 1 to ${MAX_DOMAIN} states and has ${size}`];

const checkPair = ({ domains }: CostGraph, { a, b, cost }: PairCost, index: number): string[] => {
  const [sizeA, sizeB] = [domains[a], domains[b]];
  if (sizeA === undefined || sizeB === undefined)
    return [`pair ${index} joins ${a} and ${b}, of which one does not exist`];
  return checkTable(`pair ${index} (of ${a} and ${b})`, cost, sizeA * sizeB);
};

/** @throws TandemError PLAN_GRAPH_INVALID with every table that does not fit its domains or holds NaN or -Infinity */
export const checkGraph = (graph: CostGraph): void => {
  const problems = [
    ...graph.domains.flatMap(checkDomain),
    ...graph.domains.flatMap((size, variable) => checkTable(`unary ${variable}`, graph.unary[variable], size)),
    ...graph.pairs.flatMap((pair, index) => checkPair(graph, pair, index)),
  ];
  if (graph.unary.length > graph.domains.length)
    problems.push(`${graph.unary.length} unary tables for ${graph.domains.length} variables`);
  if (problems.length > 0) throw invalidGraph(problems);
};

/**
 * The cost of one choice: the sum of the entries that it selects, in the graph's own order.
 * @param choice `[domains.length]`, the state of each variable
 */
export const costOf = ({ domains, unary, pairs }: CostGraph, choice: Int32Array): number => {
  const stateOf = (variable: number): number => choice[variable] as number;
  const own = unary.reduce((sum, table, variable) => sum + (table[stateOf(variable)] as number), 0);
  return pairs.reduce(
    (sum, { a, b, cost }) => sum + (cost[stateOf(a) * (domains[b] as number) + stateOf(b)] as number),
    own,
  );
};
