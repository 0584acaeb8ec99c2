/**
 * Random small graphs split against the same graphs whole, on real ONNX Runtime: 200 of them, or as many as `FUZZ_GRAPHS` says
 * (`npm run fuzz:partition`: 10,000), from `FUZZ_SEED` on. What fails is made as short as it goes and printed; it belongs into
 * `found.test.ts`.
 */
import fc from 'fast-check';
import { it } from 'vitest';
import { choices, speeds } from './graphs.js';
import { whatIsWrong } from './whole-and-split.js';

const GRAPHS = Number(process.env['FUZZ_GRAPHS'] ?? 200);
const SEED = Number(process.env['FUZZ_SEED'] ?? 1);
/** Milliseconds; a graph takes about half a second on one core. */
const TIMEOUT = 60_000 + GRAPHS * 5_000;

it(
  `gives of ${GRAPHS} random graphs on several ranks what each gives whole`,
  async () => {
    const property = fc.asyncProperty(choices, speeds, async (list, ranks) => {
      const wrong = await whatIsWrong(list, ranks);
      if (wrong !== undefined) throw new Error(wrong);
    });
    await fc.assert(property, { numRuns: GRAPHS, seed: SEED });
  },
  TIMEOUT,
);
