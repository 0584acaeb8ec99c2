/**
 * Random small graphs split against the same graphs whole, on real ONNX Runtime: 200 of them, or as many as `FUZZ_GRAPHS` says
 * (`npm run fuzz:partition`: 10,000), from `FUZZ_SEED` on. What fails is made as short as it goes and printed; it belongs into `odd-graphs.test.ts`.
 */
import fc from 'fast-check';
import { expect, it } from 'vitest';
import { choices, speeds } from './graphs.js';
import { compareSplit, inMemory, type RunSplit, throughShards } from './whole-and-split.js';

const GRAPHS = Number(process.env.FUZZ_GRAPHS ?? 200);
const SEED = Number(process.env.FUZZ_SEED ?? 1);
/** Through files and sockets a graph takes ten times as long. */
const WITH_WORKERS = 20;
/** Milliseconds a graph, on a machine that does other things as well. */
const PATIENCE = 5_000;

/** @returns how many of the graphs were split with exchanges */
const compareAll = async (count: number, run: RunSplit): Promise<number> => {
  let [split, done] = [0, 0];
  const property = fc.asyncProperty(choices, speeds, async (list, ranks) => {
    const { wrong, isSplit, overflows } = await compareSplit(list, ranks, run);
    fc.pre(!overflows);
    if (wrong !== undefined) throw new Error(wrong);
    split += isSplit ? 1 : 0;
    done++;
    if (done % 500 === 0) console.log(`${done} of ${count} graphs agree; ${split} were split with exchanges.`);
  });
  await fc.assert(property, { numRuns: count, seed: SEED });
  return split;
};

it(
  `gives of ${GRAPHS} random graphs on several ranks what each gives whole`,
  async () => {
    const split = await compareAll(GRAPHS, inMemory);
    console.log(`${split} of ${GRAPHS} graphs were split with exchanges.`);
    expect(split).toBeGreaterThan(GRAPHS / 2);
  },
  60_000 + GRAPHS * PATIENCE,
);

it(
  `gives of ${WITH_WORKERS} random graphs the same on the worker's own ranks`,
  async () => {
    expect(await compareAll(WITH_WORKERS, throughShards)).toBeGreaterThan(0);
  },
  60_000 + WITH_WORKERS * PATIENCE,
);
