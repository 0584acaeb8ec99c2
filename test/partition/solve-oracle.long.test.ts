/** The solver against HiGHS: the same problem as an integer program, solved by branch and bound. */
import { describe, expect, it } from 'vitest';
import { costGraphOf } from '#tandem/partition/plan/choose.js';
import { ratesOf } from '#tandem/partition/plan/rates.js';
import { place } from '#tandem/partition/plan/states.js';
import { minimise } from '#tandem/partition/solve/eliminate.js';
import { solveWithHighs } from './highs.js';
import {
  type Costs,
  chain,
  type Edge,
  eighths,
  grid,
  integer,
  mirrored,
  seeded,
  unetLadder,
  withCosts,
} from './solve-problems.js';
import { readFixture, TINY_EXPORTS } from './stages.js';

/** Random costs over the edges, solved both ways. */
const compare = (
  seed: number,
  edges: readonly Edge[],
  variables: number,
  mostStates: number,
  costs: Omit<Costs, 'draw'>,
): void => {
  const random = seeded(seed);
  const domains = Array.from({ length: variables }, () => integer(random, 1, mostStates));
  const graph = withCosts(random, domains, edges, { ...costs, draw: eighths });
  // Costs are multiples of 1/8, so this takes HiGHS's tolerance off and nothing else.
  const optimum = Math.round(solveWithHighs(graph) * 8) / 8;
  if (optimum === Number.POSITIVE_INFINITY) {
    expect(() => minimise(graph)).toThrowError(expect.objectContaining({ code: 'PLAN_IMPOSSIBLE' }));
    return;
  }
  expect(Math.abs(minimise(graph).cost - optimum)).toBeLessThanOrEqual(1e-9 * optimum);
};

describe('minimise against HiGHS', () => {
  for (const forbidden of [0, 0.15]) {
    it(`agrees on UNet-like ladders with ${100 * forbidden} % of the pairs forbidden`, () => {
      compare(0, mirrored(50), 50, 4, { forbidden, firstAllowed: true });
      for (const seed of [1, 2, 3]) compare(seed, unetLadder(16, 5), 80, 5, { forbidden, firstAllowed: true });
    });

    it(`agrees on grids with ${100 * forbidden} % of the pairs forbidden`, () => {
      for (const seed of [4, 5, 6]) compare(seed, grid(5, 6), 30, 4, { forbidden, firstAllowed: true });
    });

    it(`agrees on chains with ${100 * forbidden} % of the pairs forbidden`, () => {
      for (const seed of [7, 8, 9]) compare(seed, chain(120), 120, 6, { forbidden, firstAllowed: true });
    });
  }

  it('agrees on which problems have no allowed choice', () => {
    for (const seed of [10, 11, 12, 13]) compare(seed, grid(4, 4), 16, 3, { forbidden: 0.4 });
  });
});

describe('minimise against HiGHS on real graphs', () => {
  it.each(TINY_EXPORTS)('is within 1 % of the optimum on %s', async (name, dims) => {
    const graph = await readFixture(name, dims);
    const rates = [1, 1].map((speed) => ratesOf({ provider: 'cpu', speed }));
    const problem = costGraphOf(graph, place(graph, { speeds: [1, 1] }), { rates, wireDtype: 'fp32' });
    const optimum = solveWithHighs(problem);
    expect(optimum).toBeGreaterThan(0);
    expect(minimise(problem).cost / optimum - 1).toBeLessThan(0.01);
  });
});
