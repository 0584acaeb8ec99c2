import { readFile, rm, truncate, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { expect, it } from 'vitest';
import type { Manifest } from '#tandem/partition/write/manifest.js';
import { manifestProblems } from '#tandem/partition/write/manifest-rules.js';
import { readManifest } from '#tandem/partition/write/read-manifest.js';
import { checkRankFiles, findProfile, rankFiles } from '#tandem/shard-worker/check.js';
import { errorOf, fixture, flipByte, withCopy, withDirectory } from '../cluster/helpers.js';

/** Writes a manifest with one change made to its text. */
const withManifest = <T>(change: (text: string) => string, work: (directory: string) => Promise<T>): Promise<T> =>
  withCopy('mlp-2', async (directory) => {
    const path = join(directory, 'manifest.json');
    await writeFile(path, change(await readFile(path, 'utf8')));
    return work(directory);
  });

it('reads a good shard directory and finds nothing wrong with its files', async () => {
  const manifest = await readManifest(fixture('mlp-3'));
  expect(manifest.world_size).toBe(3);
  const seen: number[] = [];
  for (const { rank } of manifest.ranks)
    await checkRankFiles(fixture('mlp-3'), manifest, rank, (done, total) => seen.push(done / total));
  expect(seen.at(-1)).toBe(1);
});

it('says that a directory is missing, or is no directory', async () => {
  expect((await errorOf(readManifest('/nowhere/at/all'))).code).toBe('SHARD_DIRECTORY_MISSING');
  const file = join(fixture('mlp-2'), 'manifest.json');
  expect((await errorOf(readManifest(file))).message).toMatch(/is not a directory/);
});

it('says that a directory without a manifest is not a shard directory', async () => {
  await withDirectory(async (directory) => {
    const error = await errorOf(readManifest(directory));
    expect(error.code).toBe('SHARD_DIRECTORY_INVALID');
    expect(error.message).toMatch(/not a shard directory: it has no readable manifest.json; make it again/);
  });
});

it('names both format versions when they differ', async () => {
  await withManifest(
    (text) => text.replace(/"format_version":\s*1/, '"format_version": 2'),
    async (directory) => {
      const error = await errorOf(readManifest(directory));
      expect(error.code).toBe('SHARD_FORMAT_VERSION');
      expect(error.message).toMatch(/has format version 2, but this Tandem reads version 1/);
    },
  );
});

it.each<[string, (text: string) => string, RegExp]>([
  ['text that is not JSON', (text) => text.slice(0, -20), /is not JSON/],
  ['JSON without a version', () => '{"a": 1}', /has no format_version/],
  ['a missing field', (text) => text.replace('"world_size"', '"world"'), /world_size/],
  ['a type that does not exist', (text) => text.replace('"float32"', '"float31"'), /dtype/],
  [
    'a path that leaves the directory',
    (text) => text.replace('"rank-0/segment-0.onnx"', '"../segment-0.onnx"'),
    /inside the shard directory/,
  ],
  ['an absolute path', (text) => text.replace('"rank-0/weights.bin"', '"/etc/passwd"'), /inside the shard directory/],
  ['a digest that is none', (text) => text.replace(/[0-9a-f]{64}/, 'abc'), /64 hex digits/],
])('refuses a manifest with %s', async (_, change, expected) => {
  await withManifest(change, async (directory) => {
    const error = await errorOf(readManifest(directory));
    expect(error.code).toBe('SHARD_MANIFEST_INVALID');
    expect(error.message).toMatch(expected);
  });
});

type Draft = {
  world_size: number;
  profiles: [{ ranks: [{ segments: Record<'inputs' | 'release' | 'sends', unknown[]>[] }, ...unknown[]] }];
};
const lastSegment = (draft: Draft): Record<'inputs' | 'release' | 'sends', unknown[]> | undefined =>
  draft.profiles[0].ranks[0].segments.at(-1);

it.each<[string, (draft: Draft) => unknown, RegExp[]]>([
  [
    'a send of what is no output, to a rank that does not await it',
    (draft) => lastSegment(draft)?.sends.push({ tensor: 'z', to: [1] }),
    [/"z" is sent but is not an output/, /"z" is sent to rank 1, which does not await it/],
  ],
  ['an input that nothing provides', (draft) => lastSegment(draft)?.inputs.push('w'), [/nothing provides "w"/]],
  [
    'a tensor that is awaited but not sent',
    (draft) => draft.profiles[0].ranks[0].segments[0]?.sends.pop(),
    [/rank 0, which does not send "partial"/],
  ],
  [
    'an output that is gone at the end',
    (draft) => lastSegment(draft)?.release.push('y'),
    [/output "y" is not there at the end/],
  ],
  [
    'a wrong number of ranks',
    (draft) => Object.assign(draft, { world_size: 3 }),
    [/lists 0, 1, expected 0 to 2/, /programs for 2 ranks, not 3/],
  ],
])('refuses a manifest that contradicts itself: %s', async (_, change, expected) => {
  const edit = (text: string): string => {
    const draft = JSON.parse(text) as Draft;
    change(draft);
    return JSON.stringify(draft);
  };
  await withManifest(edit, async (directory) => {
    const error = await errorOf(readManifest(directory));
    expect(error.code).toBe('SHARD_MANIFEST_INVALID');
    for (const text of expected) expect(error.problems.join('\n')).toMatch(text);
  });
});

it('lists a file that is used but has no digest', async () => {
  const manifest: Manifest = await readManifest(fixture('mlp-2'));
  const files = manifest.files.filter((file) => file.path !== 'rank-1/weights.bin');
  expect(manifestProblems({ ...manifest, files })).toEqual([
    '"rank-1/weights.bin" is used but has no entry in "files"',
  ]);
});

it('names every file that was changed, cut short or removed', async () => {
  await withCopy('mlp-2', async (directory) => {
    const manifest = await readManifest(directory);
    await flipByte(join(directory, 'rank-0', 'segment-1.onnx'));
    await truncate(join(directory, 'rank-0', 'weights.bin'), 700);
    await rm(join(directory, 'rank-0', 'segment-2.onnx'));
    const error = await errorOf(checkRankFiles(directory, manifest, 0));
    expect(error.code).toBe('SHARD_FILES');
    expect(error.problems).toHaveLength(3);
    expect(error.problems.join('\n')).toMatch(/"rank-0\/segment-1.onnx" has changed/);
    expect(error.problems.join('\n')).toMatch(/"rank-0\/segment-2.onnx" is missing/);
    expect(error.problems.join('\n')).toMatch(/"rank-0\/weights.bin" has 700 bytes, expected 768/);
  });
});

it("looks at the rank's own files only", async () => {
  await withCopy('mlp-2', async (directory) => {
    const manifest = await readManifest(directory);
    await flipByte(join(directory, 'rank-0', 'weights.bin'));
    await checkRankFiles(directory, manifest, 1);
    expect(rankFiles(manifest, 1).every((file) => file.path.startsWith('rank-1/'))).toBe(true);
  });
});

it('lists the profiles that there are when one is missing', async () => {
  const manifest = await readManifest(fixture('mlp-2'));
  expect(findProfile(manifest, 'static').name).toBe('static');
  expect(() => findProfile(manifest, 'batch=2')).toThrow(/has profiles "static", but not "batch=2"/);
});
