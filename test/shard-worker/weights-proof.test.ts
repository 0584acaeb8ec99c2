import { readFile, rm, stat, utimes, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { describe, expect, it } from 'vitest';
import { readManifest } from '#tandem/partition/write/read-manifest.js';
import { proveWeights } from '#tandem/shard-worker/weights-proof.js';
import { errorOf, flipByte, withCopy } from '../cluster/helpers.js';

/** Longer than a file must have been left alone before its proof is remembered. */
const SETTLED_MS = 2_100;

/** A copy of a fixture whose first rank's weights were proved and are remembered. */
const withProved = (work: (weights: string, prove: () => Promise<number>) => Promise<void>): Promise<void> =>
  withCopy('mlp-2', async (directory) => {
    const manifest = await readManifest(directory);
    const weights = join(directory, 'rank-0', 'weights.bin');
    const prove = async (): Promise<number> => {
      let reports = 0;
      await proveWeights(directory, manifest, 0, 'mmap', () => {
        reports += 1;
      });
      return reports;
    };
    await delay(SETTLED_MS);
    await prove();
    await work(weights, prove);
  });

describe.concurrent('a proof', () => {
  it('is remembered', async () => {
    await withProved(async (weights, prove) => {
      const record = await readFile(`${weights}.proved`, 'utf8');
      expect(record).toContain(String((await stat(weights)).ino));
      expect(await prove()).toBe(1);
      expect(await readFile(`${weights}.proved`, 'utf8')).toBe(record);
    });
  });

  it('does not hide a byte that was flipped after it, even where the size and the time of change were put back', async () => {
    await withProved(async (weights, prove) => {
      const { atime, mtime } = await stat(weights);
      await flipByte(weights);
      await utimes(weights, atime, mtime);
      expect((await errorOf(prove())).code).toBe('SHARD_FILES');
    });
  });

  it('is not that of a file that took the place of the proved one', async () => {
    await withProved(async (weights, prove) => {
      const bytes = await readFile(weights);
      await rm(weights);
      await writeFile(weights, bytes.fill(7));
      expect((await errorOf(prove())).code).toBe('SHARD_FILES');
    });
  });

  it('does not hide that its file is missing', async () => {
    await withProved(async (weights, prove) => {
      await rm(weights);
      expect((await errorOf(prove())).message).toMatch(/"rank-0\/weights.bin" is missing/);
    });
  });
});

it('does not remember a file that changed a moment ago', async () => {
  await withCopy('mlp-2', async (directory) => {
    const weights = join(directory, 'rank-0', 'weights.bin');
    // Another test's workers may have left one beside the fixture.
    await rm(`${weights}.proved`, { force: true });
    await proveWeights(directory, await readManifest(directory), 0, 'mmap', () => undefined);
    await expect(stat(`${weights}.proved`)).rejects.toThrow('ENOENT');
  });
});
