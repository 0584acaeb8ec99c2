import { mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import { writeShardDirectory } from '#tandem/partition/write/index.js';
import { MANIFEST_FILE, type Manifest } from '#tandem/partition/write/manifest.js';
import { readManifest } from '#tandem/partition/write/read-manifest.js';
import { testDirectory } from '../support/directory.js';
import { twoRankContent } from './write-content.js';

type Json = Record<string, unknown>;

/** Writes a good shard directory, changes its manifest, and reads that. */
const readChanged = async (change: (manifest: Json) => unknown): Promise<Manifest> => {
  const folder = testDirectory();
  const out = join(folder, 'shards');
  await writeShardDirectory(out, await twoRankContent(folder));
  const manifest: Json = JSON.parse(readFileSync(join(out, MANIFEST_FILE), 'utf8'));
  writeFileSync(join(out, MANIFEST_FILE), JSON.stringify(change(manifest)));
  return readManifest(out);
};

test('a manifest that nobody changed is read', async () => {
  expect(await readChanged((manifest) => manifest)).toMatchObject({ world_size: 2 });
});

test('a directory that is missing is told from one that has no manifest', async () => {
  const folder = testDirectory();
  mkdirSync(join(folder, 'empty'));
  for (const [name, code] of [
    ['absent', 'SHARD_DIRECTORY_MISSING'],
    ['empty', 'SHARD_DIRECTORY_INVALID'],
  ] as const) {
    await expect(readManifest(join(folder, name))).rejects.toMatchObject({
      code,
      message: expect.stringContaining(name),
    });
  }
});

test('another format version is told before anything else', async () => {
  await expect(readChanged(() => ({ format_version: 2, shape: 'unknown' }))).rejects.toMatchObject({
    code: 'SHARD_FORMAT_VERSION',
    message: expect.stringMatching(/has format version 2, but this Tandem reads version 1/),
  });
});

test('a manifest that is no JSON is refused', async () => {
  const folder = testDirectory();
  writeFileSync(join(folder, MANIFEST_FILE), '{"format_version": 1,');
  await expect(readManifest(folder)).rejects.toMatchObject({ code: 'SHARD_MANIFEST_INVALID' });
});

test('all the fields that are wrong are told at once', async () => {
  const changed = readChanged((manifest) => ({ ...manifest, world_size: '2', wire_dtype: 'fp8', extra: 1 }));
  await expect(changed).rejects.toMatchObject({
    code: 'SHARD_MANIFEST_INVALID',
    problems: [
      expect.stringContaining('world_size'),
      expect.stringContaining('wire_dtype'),
      expect.stringContaining('extra'),
    ],
  });
});

test.each(['../../etc/passwd', '/etc/passwd', 'C:/windows', 'rank-0\\weights.bin', './a', 'a//b', ''])(
  'the path "%s" is refused',
  async (path) => {
    const changed = readChanged((manifest) => ({ ...manifest, files: [{ path, bytes: 1, sha256: 'a'.repeat(64) }] }));
    await expect(changed).rejects.toMatchObject({ code: 'SHARD_MANIFEST_INVALID' });
  },
);

test('parts that disagree are all told', async () => {
  const changed = readChanged((manifest) => ({ ...manifest, world_size: 3, files: [] }));
  await expect(changed).rejects.toMatchObject({
    code: 'SHARD_MANIFEST_INVALID',
    problems: expect.arrayContaining([
      '"ranks" lists 0, 1, expected 0 to 2 in order',
      '"rank-0/weights.bin" is used but has no entry in "files"',
      'profile "static" has programs for 2 ranks, not 3',
      '"rank-1/0.onnx" is used but has no entry in "files"',
    ]),
  });
});
