import { randomBytes } from 'node:crypto';
import { writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { describe, expect, it } from 'vitest';
import { checksumOf } from '#tandem/common/checksum.js';
import { readManifest } from '#tandem/partition/write/read-manifest.js';
import { readThrough } from '#tandem/shard-worker/check.js';
import { chooseLoader, loaderFor } from '#tandem/shard-worker/loader.js';
import { proveWeights } from '#tandem/shard-worker/weights-proof.js';
import { launchDirectory, withCopy, withDirectory } from '../cluster/helpers.js';

const PIECE = 4 << 20;
const LARGE = 2 * PIECE + 4096;
/** Longer than a file must have been left alone before its proof is remembered. */
const SETTLED_MS = 2_100;

describe('the loader', () => {
  it.each([
    ['NFS', 0x6969, 'read'],
    ['CIFS', 0xff534d42, 'read'],
    ['CIFS with its sign', 0xff534d42 | 0, 'read'],
    ['FUSE', 0x65735546, 'read'],
    ['9p', 0x01021997, 'read'],
    ['Ceph', 0x00c36400, 'read'],
    ['Lustre', 0x0bd00bd0, 'read'],
    ['ext4', 0xef53, 'mmap'],
    ['xfs', 0x58465342, 'mmap'],
    ['tmpfs', 0x01021994, 'mmap'],
  ])('of shards on %s is chosen by the type of the file system', (_, type, loader) => {
    expect(loaderFor(type, 'linux')).toBe(loader);
    expect(loaderFor(type, 'darwin')).toBe('mmap');
  });

  it('is the one that was asked for, and for this disk mmap', async () => {
    expect(await chooseLoader('read', tmpdir())).toBe('read');
    expect(await chooseLoader('auto', tmpdir())).toBe('mmap');
  });

  it('"read" has read a known file to its end when it is done, "mmap" goes on at once', () =>
    withCopy('mlp-2', async (directory) => {
      const content = randomBytes(LARGE);
      await writeFile(join(directory, 'rank-0', 'weights.bin'), content);
      const { files, ...rest } = await readManifest(directory);
      const withLarge = files.map((file) =>
        file.path === 'rank-0/weights.bin' ? { ...file, bytes: LARGE, gmac: checksumOf(content) } : file,
      );
      const manifest = { ...rest, files: withLarge };
      await delay(SETTLED_MS);
      await proveWeights(directory, manifest, 0, 'mmap', () => undefined);
      const reported = async (loader: 'mmap' | 'read'): Promise<readonly (readonly number[])[]> => {
        const reports: number[][] = [];
        await proveWeights(directory, manifest, 0, loader, (done, total) => reports.push([done, total]));
        return reports;
      };
      expect(await reported('read')).toEqual([
        [PIECE, LARGE],
        [2 * PIECE, LARGE],
        [LARGE, LARGE],
      ]);
      expect(await reported('mmap')).toEqual([[LARGE, LARGE]]);
    }));

  it('"read" has all ranks\' weights before the first session opens', async () => {
    const stages: string[] = [];
    await withCopy('mlp-2', async (directory) => {
      const onProgress = (stage: string, done: number, total: number): void => {
        if (stage === 'load' || done === total) stages.push(stage);
      };
      const cluster = await launchDirectory(directory, { loader: 'read', onProgress });
      await cluster.close();
    });
    expect(stages).toContain('load');
    expect(stages[0]).toBe('check');
  });
});

describe('reading ahead', () => {
  it.each([0, 1, 4 << 20, (4 << 20) + 1, (21 << 20) + 7])('hands out a file of %i bytes whole and in order', (size) =>
    withDirectory(async (directory) => {
      const path = join(directory, 'file');
      const content = randomBytes(size);
      await writeFile(path, content);
      const pieces: Uint8Array[] = [];
      await readThrough(path, (piece) => pieces.push(Uint8Array.from(piece)));
      expect(Buffer.concat(pieces).equals(content)).toBe(true);
    }),
  );
});
