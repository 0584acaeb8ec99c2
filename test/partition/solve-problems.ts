/** Seeded cost graphs for the solver's tests. */
import type { CostGraph, PairCost } from '#tandem/partition/solve/eliminate.js';

/** Uniform in [0, 1): mulberry32, a 32-bit generator whose whole state is its seed. */
export type Random = () => number;

export const seeded = (seed: number): Random => {
  let state = seed >>> 0;
  return () => {
    state = (state + 0x6d2b79f5) >>> 0;
    let mixed = Math.imul(state ^ (state >>> 15), state | 1);
    mixed ^= mixed + Math.imul(mixed ^ (mixed >>> 7), mixed | 61);
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 32;
  };
};

export const integer = (random: Random, least: number, most: number): number =>
  least + Math.floor(random() * (most - least + 1));

export interface Costs {
  /** Share of the pair entries that are `Infinity`. */
  readonly forbidden: number;
  /** Never forbid the first entry of a table, so that the choice of all first states is allowed. */
  readonly firstAllowed?: boolean;
  /** Draws a finite cost. */
  readonly draw: (random: Random) => number;
}

/** Multiples of 1/8: sums are exact, and two different sums are far enough apart for any solver's tolerance. */
export const eighths = (random: Random): number => integer(random, 0, 800) / 8;

export type Edge = readonly [number, number];

const table = (random: Random, entries: number, forbidden: number, costs: Costs): Float64Array =>
  Float64Array.from({ length: entries }, (_, entry) => {
    const isForbidden = random() < forbidden && !(costs.firstAllowed === true && entry === 0);
    return isForbidden ? Number.POSITIVE_INFINITY : costs.draw(random);
  });

/** Random tables over a given structure; some single states are forbidden too. */
export const withCosts = (
  random: Random,
  domains: readonly number[],
  edges: readonly Edge[],
  costs: Costs,
): CostGraph => ({
  domains,
  unary: domains.map((size) => table(random, size, costs.forbidden / 4, costs)),
  pairs: edges.map(([a, b]): PairCost => {
    const entries = (domains[a] ?? 0) * (domains[b] ?? 0);
    return { a, b, cost: table(random, entries, costs.forbidden, costs) };
  }),
});

export const chain = (length: number): Edge[] => Array.from({ length: length - 1 }, (_, index) => [index, index + 1]);

export const grid = (rows: number, columns: number): Edge[] =>
  Array.from({ length: rows * columns }, (_, index): Edge[] => [
    ...((index + 1) % columns === 0 ? [] : [[index, index + 1] as const]),
    ...(index + columns < rows * columns ? [[index, index + columns] as const] : []),
  ]).flat();

/**
 * A chain of blocks like a UNet's: a residual from each block's start to its end, and a skip from the end of each block in the
 * first half to the start of its mirror image in the second.
 */
export const unetLadder = (blocks: number, blockLength: number): Edge[] => {
  const starts = Array.from({ length: blocks }, (_, block) => block * blockLength);
  const end = (start: number): number => start + blockLength - 1;
  const residuals = starts.map((start): Edge => [start, end(start)]);
  const skips = starts
    .slice(0, Math.floor(blocks / 2))
    .map((start, block): Edge => [end(start), starts[blocks - 1 - block] ?? start]);
  return [...chain(blocks * blockLength), ...residuals, ...skips];
};

/** A chain whose every variable skips to its mirror image, with residuals that overlap: nothing in it has two neighbours. */
export const mirrored = (length: number): Edge[] => [
  ...chain(length),
  ...Array.from({ length: Math.floor(length / 2) - 5 }, (_, index): Edge => [index, length - 1 - index]),
  ...Array.from({ length: Math.floor((length - 5) / 3) }, (_, index): Edge => [3 * index, 3 * index + 5]),
];
