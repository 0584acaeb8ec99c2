/**
 * Random small graphs split against the same graphs whole, on real ONNX Runtime: 200 of them, or as many as `FUZZ_GRAPHS` says
 * (`npm run fuzz:partition`: 10,000), from `FUZZ_SEED` on. What fails is made as short as it goes and printed; it belongs into `odd-graphs.test.ts`.
 */
import fc from 'fast-check';
import { expect, it } from 'vitest';
import { choices, speeds } from './graphs.js';
import { compareSplit } from './whole-and-split.js';

const GRAPHS = Number(process.env.FUZZ_GRAPHS ?? 200);
const SEED = Number(process.env.FUZZ_SEED ?? 1);
/** Milliseconds; a graph takes about half a second on one core. */
const TIMEOUT = 60_000 + GRAPHS * 5_000;

it(
  `gives of ${GRAPHS} random graphs on several ranks what each gives whole`,
  async () => {
    let split = 0;
    const property = fc.asyncProperty(choices, speeds, async (list, ranks) => {
      const { wrong, isSplit } = await compareSplit(list, ranks);
      if (wrong !== undefined) throw new Error(wrong);
      split += isSplit ? 1 : 0;
    });
    await fc.assert(property, { numRuns: GRAPHS, seed: SEED });
    console.log(`${split} of ${GRAPHS} graphs were split with exchanges.`);
    // Of the first 200, 54 were; the others are too small to be worth an exchange.
    expect(split).toBeGreaterThan(GRAPHS / 5);
  },
  TIMEOUT,
);
