/**
 * The planner's solver on real graphs: against HiGHS on the small ones, and its time and memory on the largest:
 * `npm run measure -- solver`.
 */
import { expect, it } from 'vitest';
import { costGraphOf } from '#tandem/partition/plan/choose.js';
import { ratesOf } from '#tandem/partition/plan/rates.js';
import { place } from '#tandem/partition/plan/states.js';
import { minimise } from '#tandem/partition/solve/eliminate.js';
import { solveWithHighs } from '../partition/highs.js';
import { readFixture, TINY_EXPORTS } from '../partition/stages.js';

const problemOf = async (name: string, dims: Readonly<Record<string, number>>, worldSize: number) => {
  const graph = await readFixture(name, dims);
  const placements = place(graph, { speeds: new Array<number>(worldSize).fill(1) });
  const rates = Array.from({ length: worldSize }, () => ratesOf({ provider: 'cpu' }));
  return costGraphOf(graph, placements, { rates, wireDtype: 'fp32' });
};

const seconds = (start: number): string => `${((performance.now() - start) / 1000).toFixed(2)} s`;

it('prints how far the solver is from HiGHS on the small graphs', async () => {
  const rows: Record<string, string | number>[] = [];
  for (const [name, dims] of TINY_EXPORTS) {
    const problem = await problemOf(name, dims, 2);
    const start = performance.now();
    const { cost } = minimise(problem);
    const own = seconds(start);
    const highsStart = performance.now();
    const optimum = solveWithHighs(problem);
    rows.push({
      graph: name,
      variables: problem.domains.length,
      states: problem.domains.reduce((sum, size) => sum + size, 0),
      'above HiGHS': `${(100 * (cost / optimum - 1)).toFixed(4)} %`,
      solved: own,
      HiGHS: seconds(highsStart),
    });
    expect(cost / optimum - 1).toBeLessThan(0.01);
  }
  console.table(rows);
});

it('prints time and memory on the largest graphs', async () => {
  const rows: Record<string, string | number>[] = [];
  const sizes = { batch_size: 2, height: 128, width: 128, sequence_length: 77 };
  for (const [name, dims] of [
    ['sd15-ts17', {}],
    ['sdxl-ts17', {}],
    ['sdxl-ts17-sym', sizes],
  ] as const) {
    for (const worldSize of [2, 8]) {
      const problem = await problemOf(name, dims, worldSize);
      const before = process.memoryUsage().rss;
      const start = performance.now();
      minimise(problem);
      rows.push({
        graph: name,
        ranks: worldSize,
        variables: problem.domains.length,
        states: problem.domains.reduce((sum, size) => sum + size, 0),
        solved: seconds(start),
        'memory grown': `${((process.memoryUsage().rss - before) / 2 ** 20).toFixed(0)} MiB`,
      });
    }
  }
  console.table(rows);
});
