/**
 * The plan of every export at two and four ranks, as a file and a digest each, so that two versions can be held against each
 * other: `npm run measure -- plans`, then `git stash` or another checkout, and `diff` of the two folders. `PLANS=DIR` says
 * where the files go; otherwise `out/measure/plans`.
 */
import { createHash } from 'node:crypto';
import { mkdir, writeFile } from 'node:fs/promises';
import { join, resolve } from 'node:path';
import { it } from 'vitest';
import { TandemError } from '#tandem/common/errors.js';
import { plan, type Quantize, type Split } from '#tandem/partition/index.js';
import { dimsOf, SMALL_EXPORTS } from '../fixtures/families.js';
import { TINY_EXPORTS } from '../partition/stages.js';
import { graphOf, SCRATCH } from './scratch.js';

const FOLDER = resolve(process.env.PLANS ?? join(SCRATCH, 'plans'));

/** Ways of splitting; the last two on two ranks only. */
const WAYS: readonly (readonly [worldSize: number, split: Split, quantize: Quantize])[] = [
  [2, 'tensor', 'none'],
  [4, 'tensor', 'none'],
  [2, 'batch', 'none'],
  [2, 'tensor', 'int8'],
];

const EXPORTS = [...TINY_EXPORTS, ...SMALL_EXPORTS.map((name) => [name, dimsOf(name)] as const)];

const planOf = async (
  name: string,
  dims: Readonly<Record<string, number>>,
  [worldSize, split, quantize]: (typeof WAYS)[number],
) => {
  try {
    return await plan({
      model: { path: await graphOf(name) },
      devices: Array.from({ length: worldSize }, (_, deviceId) => ({ provider: 'cpu' as const, deviceId })),
      dims,
      wire: 'fp32',
      split,
      quantize,
    });
  } catch (error) {
    if (error instanceof TandemError) return { refused: error.code, message: error.message };
    throw error;
  }
};

it('prints the digest of every plan', async () => {
  await mkdir(FOLDER, { recursive: true });
  for (const [name, dims] of EXPORTS) {
    for (const way of WAYS) {
      const text = JSON.stringify(await planOf(name, dims, way), null, 1);
      const file = `${name.replace('families/', '')}-${way.join('-')}.json`;
      await writeFile(join(FOLDER, file), text);
      console.log(createHash('sha256').update(text).digest('hex').slice(0, 16), file);
    }
  }
});
