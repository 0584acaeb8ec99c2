/** The solver's problem as an integer program, for HiGHS: an independent solver, by branch and bound. */
import { createRequire } from 'node:module';
import { expect } from 'vitest';
import type { CostGraph } from '#tandem/partition/solve/eliminate.js';

// The package's types describe its CommonJS form only: an ES import of it has no call signature.
const { default: loadHighs } = createRequire(import.meta.url)('highs') as typeof import('highs');
const highs = await loadHighs();

interface Term {
  readonly name: string;
  readonly cost: number;
}

const stateName = (variable: number, state: number): string => `x${variable}_${state}`;

const stateTerms = ({ unary }: CostGraph): Term[][] =>
  unary.map((costs, variable) => [...costs].map((cost, state) => ({ name: stateName(variable, state), cost })));

const isAllowed = ({ cost }: Term): boolean => cost !== Number.POSITIVE_INFINITY;

const sum = (terms: readonly Term[]): string => terms.map(({ name }) => name).join(' + ') || '0 zero';

/** One continuous variable for each allowed combination; along each row and column they sum to that state's variable. */
const pairRows = ({ domains }: CostGraph, { a, b, cost }: CostGraph['pairs'][number], pair: number) => {
  const columns = domains[b] ?? 0;
  const terms = [...cost].map((value, index): Term => ({ name: `y${pair}_${index}`, cost: value }));
  const margin = (variable: number, indexOf: (index: number) => number): string[] =>
    Array.from({ length: domains[variable] ?? 0 }, (_, state) => {
      const row = terms.filter((term, index) => indexOf(index) === state && isAllowed(term));
      return `${sum(row)} - ${stateName(variable, state)} = 0`;
    });
  const rows = [...margin(a, (index) => Math.floor(index / columns)), ...margin(b, (index) => index % columns)];
  return { terms: terms.filter(isAllowed), rows };
};

/** The problem in CPLEX LP format: exactly one state a variable, pairs linearised. */
const toLp = (graph: CostGraph): string => {
  const states = stateTerms(graph);
  const pairs = graph.pairs.map((pair, index) => pairRows(graph, pair, index));
  const terms = [...states.flat().filter(isAllowed), ...pairs.flatMap((pair) => pair.terms)];
  const forbidden = states.flat().filter((term) => !isAllowed(term));
  return [
    'Minimize',
    ` obj: ${terms.map(({ name, cost }) => `${cost} ${name}`).join('\n + ')}`,
    'Subject To',
    ...states.map((of) => ` ${sum(of)} = 1`),
    ...pairs.flatMap(({ rows }) => rows.map((row) => ` ${row}`)),
    'Bounds',
    ' zero = 0',
    ...forbidden.map(({ name }) => ` ${name} = 0`),
    'Binary',
    ...states.flat().map(({ name }) => ` ${name}`),
    'End',
  ].join('\n');
};

/** The least cost; infinite where no choice is allowed. */
export const solveWithHighs = (graph: CostGraph): number => {
  const options = { mip_rel_gap: 0, mip_abs_gap: 0, time_limit: 50, output_flag: false };
  const { Status, ObjectiveValue } = highs.solve(toLp(graph), options);
  if (Status === 'Infeasible') return Number.POSITIVE_INFINITY;
  expect(Status).toBe('Optimal');
  return ObjectiveValue;
};
