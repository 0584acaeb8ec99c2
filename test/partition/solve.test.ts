import { describe, expect, it } from 'vitest';
import { type CostGraph, DEFAULT_LIMITS, type Minimum, minimise } from '#tandem/partition/solve/eliminate.js';
import {
  chain,
  type Edge,
  eighths,
  grid,
  integer,
  mirrored,
  type Random,
  seeded,
  unetLadder,
  withCosts,
} from './solve-problems.js';

/** Cost of a choice, summed here so that the solver's own sum is checked too. */
const sumOf = ({ domains, unary, pairs }: CostGraph, choice: ArrayLike<number>): number => {
  const state = (variable: number): number => choice[variable] ?? Number.NaN;
  let sum = 0;
  for (const [variable, costs] of unary.entries()) sum += costs[state(variable)] ?? Number.NaN;
  for (const { a, b, cost } of pairs) sum += cost[state(a) * (domains[b] ?? 0) + state(b)] ?? Number.NaN;
  return sum;
};

/** The least cost over all choices; `Infinity` when all are forbidden. */
const bruteForce = (graph: CostGraph): number => {
  const choice = graph.domains.map(() => 0);
  let least = Number.POSITIVE_INFINITY;
  for (let digit = 0; digit < choice.length; ) {
    least = Math.min(least, sumOf(graph, choice));
    for (digit = 0; digit < choice.length; digit++) {
      const next = ((choice[digit] ?? 0) + 1) % (graph.domains[digit] ?? 1);
      choice[digit] = next;
      if (next !== 0) break;
    }
  }
  return least;
};

/** Up to 8 variables of 1 to 4 states; parallel pairs, reversed pairs and pairs of a variable with itself occur. */
const smallGraph = (seed: number, draw: (random: Random) => number): CostGraph => {
  const random = seeded(seed);
  const variables = integer(random, 1, 8);
  const domains = Array.from({ length: variables }, () => integer(random, 1, 4));
  const any = (): number => integer(random, 0, variables - 1);
  const edges = Array.from({ length: integer(random, 0, 3 * variables) }, (): Edge => [any(), any()]);
  const forbidden = [0, 0.1, 0.3, 0.5][seed % 4] ?? 0;
  return withCosts(random, domains, edges, { forbidden, draw });
};

const attempt = (graph: CostGraph): Minimum | { code: unknown } => {
  try {
    return minimise(graph);
  } catch (error) {
    return { code: (error as { code?: unknown }).code };
  }
};

const expectOptimal = (graph: CostGraph): void => {
  const least = bruteForce(graph);
  const found = attempt(graph);
  if (least === Number.POSITIVE_INFINITY) {
    expect(found).toEqual({ code: 'PLAN_IMPOSSIBLE' });
    return;
  }
  if ('code' in found) throw new Error(`expected ${least}, got ${String(found.code)}`);
  expect(sumOf(graph, found.choice)).toBeCloseTo(found.cost, 9);
  expect(Math.abs(found.cost - least)).toBeLessThanOrEqual(1e-9 * Math.max(1, Math.abs(least)));
};

const complete = (variables: number): Edge[] =>
  Array.from({ length: variables }, (_, a) => Array.from({ length: a }, (_, b): Edge => [a, b])).flat();

describe('minimise against brute force', () => {
  const seeds = Array.from({ length: 400 }, (_, seed) => seed);
  it('finds the optimum of 400 small random graphs with real costs, some negative', () => {
    for (const seed of seeds) expectOptimal(smallGraph(seed, (random) => 20 * random() - 5));
  });

  it('finds the optimum of 400 small random graphs with many equal costs', () => {
    for (const seed of seeds) expectOptimal(smallGraph(seed + 1000, (random) => integer(random, 0, 2)));
  });

  it('finds the optimum of complete graphs, where every bucket is as wide as can be', () => {
    for (const seed of seeds.slice(0, 60)) {
      const random = seeded(seed);
      const domains = Array.from({ length: 7 }, () => integer(random, 2, 4));
      expectOptimal(withCosts(random, domains, complete(7), { forbidden: 0.15, draw: (next) => next() }));
    }
  });
});

describe('minimise', () => {
  it('answers an empty problem with an empty choice', () => {
    expect(minimise({ domains: [], unary: [], pairs: [] })).toEqual({ cost: 0, choice: new Int32Array(0) });
  });

  it('takes the lowest state of equally good ones', () => {
    const domains = [3, 4, 2, 3, 4, 2, 3, 4, 2];
    const same = (a: number, b: number): number => (a === b ? 0 : 1);
    const pairs = grid(3, 3).map(([a, b]) => {
      const [rows, columns] = [domains[a] ?? 0, domains[b] ?? 0];
      const cost = Float64Array.from({ length: rows * columns }, (_, i) => same(Math.floor(i / columns), i % columns));
      return { a, b, cost };
    });
    const { choice } = minimise({ domains, unary: domains.map((size) => new Float64Array(size)), pairs });
    expect([...choice]).toEqual(domains.map(() => 0));
  });

  it('gives the same answer on every run and leaves the problem as it was', () => {
    const draw = (random: Random): number => integer(random, 0, 1);
    const make = (): CostGraph => {
      const random = seeded(7);
      const domains = Array.from({ length: 48 }, () => integer(random, 1, 5));
      return withCosts(random, domains, grid(6, 8), { forbidden: 0.05, draw });
    };
    const graph = make();
    const first = minimise(graph);
    expect(graph).toEqual(make());
    expect(minimise(graph)).toEqual(first);
    expect(minimise(make())).toEqual(first);
  });

  it('keeps back-pointers of more than 256 states', () => {
    const random = seeded(11);
    const graph = withCosts(random, [300, 300, 2, 3], complete(4), { forbidden: 0, draw: (next) => next() });
    expectOptimal(graph);
  });

  it('says so when a variable has no state left', () => {
    const forbidden = new Float64Array(4).fill(Number.POSITIVE_INFINITY);
    const graph = {
      domains: [2, 2],
      unary: [new Float64Array(2), new Float64Array(2)],
      pairs: [{ a: 0, b: 1, cost: forbidden }],
    };
    expect(() => minimise(graph)).toThrowError(expect.objectContaining({ code: 'PLAN_IMPOSSIBLE' }));
  });

  it('says so when states have partners but no choice of all states is allowed', () => {
    // Four variables that must all differ, with three states for them.
    const cost = Float64Array.from({ length: 9 }, (_, i) => (i % 4 === 0 ? Number.POSITIVE_INFINITY : 0));
    const unary = Array.from({ length: 4 }, () => new Float64Array(3));
    const graph = { domains: [3, 3, 3, 3], unary, pairs: complete(4).map(([a, b]) => ({ a, b, cost })) };
    expect(() => minimise(graph)).toThrowError(expect.objectContaining({ code: 'PLAN_IMPOSSIBLE' }));
  });

  it('refuses a graph that is too wide, before it takes the memory', () => {
    const random = seeded(3);
    const graph = withCosts(random, new Array<number>(400).fill(4), grid(20, 20), {
      forbidden: 0,
      draw: (next) => next(),
    });
    expect(() => minimise(graph)).toThrowError(
      expect.objectContaining({
        code: 'PLAN_TOO_WIDE',
        message: expect.stringMatching(/at most 67108864 entries.*Coarsen/s),
      }),
    );
  });

  it('refuses an elimination that needs more bytes or entries than it may', () => {
    const random = seeded(3);
    const graph = withCosts(random, new Array<number>(36).fill(4), grid(6, 6), {
      forbidden: 0,
      draw: (next) => next(),
    });
    const limits = { bucketEntries: 2 ** 26, totalEntries: 2 ** 33, bytes: 2 ** 31 };
    expect(minimise(graph, limits).choice).toHaveLength(36);
    for (const tight of [{ bytes: 1000 }, { totalEntries: 1000 }, { bucketEntries: 100 }]) {
      expect(() => minimise(graph, { ...limits, ...tight })).toThrowError(
        expect.objectContaining({ code: 'PLAN_TOO_WIDE' }),
      );
    }
  });

  it('lists every table that does not fit', () => {
    const pairs = [
      { a: 0, b: 1, cost: new Float64Array(5) },
      { a: 0, b: 2, cost: new Float64Array(4) },
    ];
    const unary = [new Float64Array(2), Float64Array.of(0, Number.NaN)];
    expect(() => minimise({ domains: [2, 2], unary, pairs })).toThrowError(
      expect.objectContaining({
        code: 'PLAN_GRAPH_INVALID',
        problems: [
          'unary 1 holds NaN or -Infinity',
          'pair 0 (of 0 and 1) should have 4 entries and has 5',
          'pair 1 joins 0 and 2, of which one does not exist',
        ],
      }),
    );
  });
});

describe('minimise at full size', () => {
  const measure = (name: string, graph: CostGraph): void => {
    const start = performance.now();
    const { cost, choice } = minimise(graph);
    const ms = performance.now() - start;
    const peakMb = process.resourceUsage().maxRSS / 1024;
    console.log(`${name}: ${ms.toFixed(0)} ms, process peak ${peakMb.toFixed(0)} MB`);
    expect(choice).toHaveLength(graph.domains.length);
    expect(cost).toBeLessThan(Number.POSITIVE_INFINITY);
  };
  /** Most operators have few states, some have many. */
  const mixedDomains = (random: Random, length: number): number[] =>
    Array.from({ length }, () => (random() < 0.2 ? integer(random, 9, 30) : integer(random, 1, 8)));

  it('solves a UNet-like ladder of 5,000 variables with 1 to 30 states', () => {
    const random = seeded(5);
    const graph = withCosts(random, mixedDomains(random, 5000), unetLadder(500, 10), {
      forbidden: 0.1,
      firstAllowed: true,
      draw: eighths,
    });
    measure('ladder of 5,000 variables, mixed domains', graph);
  });

  it('solves a UNet-like ladder of 5,000 variables with 12 states each', () => {
    const random = seeded(6);
    const graph = withCosts(random, new Array<number>(5000).fill(12), unetLadder(500, 10), {
      forbidden: 0,
      draw: eighths,
    });
    measure('ladder of 5,000 variables, 12 states', graph);
  });

  it('solves a ladder of 5,000 variables with 6 states, of elimination width 4', () => {
    const random = seeded(9);
    const graph = withCosts(random, new Array<number>(5000).fill(6), mirrored(5000), { forbidden: 0, draw: eighths });
    measure('mirrored ladder of 5,000 variables, 6 states', graph);
  });

  it('solves a chain of 5,000 variables with 30 states', () => {
    const random = seeded(8);
    const graph = withCosts(random, new Array<number>(5000).fill(30), chain(5000), {
      forbidden: 0.1,
      firstAllowed: true,
      draw: eighths,
    });
    measure('chain of 5,000 variables, 30 states', graph);
  });
});

describe('a problem that is too wide because all of it reads a few variables', () => {
  /** Rows of a ladder, each of which reads all six parts that one variable makes. */
  const shared = (seed: number): CostGraph => {
    const random = seeded(seed);
    const rows = 6;
    const parts = Array.from({ length: 6 }, (_, part) => 1 + part);
    const domains = [3, ...parts.map(() => 6), ...Array.from({ length: 2 * rows }, () => 4)];
    const first = 1 + parts.length;
    const edges: Edge[] = [
      ...chain(2 * rows).map(([a, b]): Edge => [first + a, first + b]),
      ...Array.from({ length: 2 * rows - 3 }, (_, i): Edge => [first + i, first + i + 3]),
      ...parts.flatMap((part) => Array.from({ length: rows }, (_, row): Edge => [part, first + 2 * row + (part % 2)])),
    ];
    const { unary, pairs } = withCosts(random, domains, edges, { forbidden: 0, draw: eighths });
    // A part's six states belong to the three ways in which it can be made, two to each.
    const makes = Float64Array.from({ length: 18 }, (_, i) =>
      Math.floor((i % 6) / 2) === Math.floor(i / 6) ? 0 : Number.POSITIVE_INFINITY,
    );
    return { domains, unary, pairs: [...pairs, ...parts.map((part) => ({ a: 0, b: part, cost: makes }))] };
  };

  it('is divided by the states of the one that decides most, and stays exact', () => {
    for (const seed of [1, 2]) {
      const graph = shared(seed);
      const narrow = { ...DEFAULT_LIMITS, bucketEntries: 2 ** 14 };
      expect(minimise(graph, narrow).cost).toBe(minimise(graph).cost);
    }
  });
});
