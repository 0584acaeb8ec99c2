import { createHash } from 'node:crypto';
import { mkdirSync, readdirSync, readFileSync, statSync, symlinkSync, truncateSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, test } from 'vitest';
import { openSession } from '#tandem/common/onnxruntime.js';
import type { HostTensor } from '#tandem/common/tensor.js';
import { decodeModel, type ModelProto } from '#tandem/partition/onnx/index.js';
import { type ShardContent, writeShardDirectory } from '#tandem/partition/write/index.js';
import { readManifest } from '#tandem/partition/write/read-manifest.js';
import { testDirectory } from '../support/directory.js';
import { FEATURES, SCALE, twoRankContent, W1, W2, wholeNumbers, withConstant, withNodes } from './write-content.js';

const X = wholeNumbers(3 * FEATURES.input, 374761393);

const matmul = (a: Float32Array, b: Float32Array, inner: number): Float32Array => {
  const columns = b.length / inner;
  return Float32Array.from({ length: (a.length / inner) * columns }, (_, index) => {
    const [row, column] = [Math.floor(index / columns), index % columns];
    let sum = 0;
    for (let k = 0; k < inner; k++) sum += (a[row * inner + k] ?? 0) * (b[k * columns + column] ?? 0);
    return sum;
  });
};

const expected = (): number[] => {
  const hidden = matmul(X, W1, FEATURES.input).map((value, index) => value * (SCALE[index % FEATURES.hidden] ?? 0));
  return [...matmul(hidden, W2, FEATURES.hidden)];
};

const runSegment = async (path: string): Promise<Float32Array> => {
  const session = await openSession(path, { provider: 'cpu', optimization: 'all', threads: 1 });
  const x: HostTensor = { dtype: 'float32', shape: [3, FEATURES.input], data: new Uint8Array(X.buffer) };
  const { partial } = await session.run({ x });
  await session.dispose();
  return new Float32Array(partial?.data.slice().buffer ?? new ArrayBuffer());
};

const initializers = (path: string): ModelProto['graph'] => decodeModel(readFileSync(path)).graph;

const entriesOf = (path: string, name: string): Record<string, string> =>
  Object.fromEntries(
    (initializers(path)?.initializer.find((tensor) => tensor.name === name)?.externalData ?? []).map(
      ({ key, value }) => [key, value],
    ),
  );

const write = async (folder: string, name = 'shards') => {
  const out = join(folder, name);
  return { out, manifest: await writeShardDirectory(out, await twoRankContent(folder)) };
};

describe('a written shard directory', () => {
  test('runs: the partial sums of both ranks add up to the whole product', async () => {
    const { out } = await write(testDirectory());
    for (const segment of ['0.onnx', '1.onnx']) {
      const partials = await Promise.all([0, 1].map((rank) => runSegment(join(out, `rank-${rank}`, segment))));
      const [first, second] = partials;
      expect(Array.from(first ?? [], (value, index) => value + (second?.[index] ?? 0))).toEqual(expected());
    }
  });

  test('has a manifest that lists every file with its size and digest', async () => {
    const { out, manifest } = await write(testDirectory());
    expect(await readManifest(out)).toEqual(manifest);
    const found = readdirSync(out, { recursive: true, withFileTypes: true }).filter((entry) => entry.isFile());
    expect(found).toHaveLength(manifest.files.length + 1);
    for (const { path, bytes, sha256 } of manifest.files) {
      const content = readFileSync(join(out, path));
      expect(content.byteLength).toBe(bytes);
      expect(createHash('sha256').update(content).digest('hex')).toBe(sha256);
    }
  });

  test('stores equal slices once, on 4096-byte boundaries, and small ones in the graph', async () => {
    const { out, manifest } = await write(testDirectory());
    const [first, second] = ['0.onnx', '1.onnx'].map((file) => join(out, 'rank-1', file));
    if (!first || !second) throw new Error('There are no segments.');
    const w1 = entriesOf(first, 'w1');
    expect(entriesOf(second, 'w1 again')).toEqual(w1);
    const half = (FEATURES.hidden / 2) * 4;
    expect(w1).toEqual({ location: 'weights.bin', offset: '0', length: String(FEATURES.input * half) });
    expect(entriesOf(first, 'w2')).toMatchObject({ offset: '4096', length: String(half * FEATURES.output) });
    expect(initializers(first)?.initializer.find(({ name }) => name === 'scale')?.rawData).toHaveLength(half);
    expect(manifest.ranks[1]?.weight_bytes).toBe(FEATURES.input * half + half * FEATURES.output + half);
    expect(statSync(join(out, 'rank-1', 'weights.bin')).size).toBe(4096 + half * FEATURES.output);
  });

  test('has the same bytes however often it is written', async () => {
    const folder = testDirectory();
    const { manifest } = await write(folder, 'a');
    expect((await write(folder, 'b')).manifest).toEqual(manifest);
  });

  test('leaves out constants that no segment reads', async () => {
    const folder = testDirectory();
    const content = await twoRankContent(folder);
    const ranks = content.ranks.map((rank) =>
      withNodes(rank, (node) => ({ ...node, op: 'Identity', inputs: node.inputs.slice(0, 1) })),
    );
    const written = await writeShardDirectory(join(folder, 'shards'), { ...content, ranks });
    const weights = written.files.filter(({ path }) => path.endsWith('weights.bin'));
    expect(weights.map(({ bytes }) => bytes)).toEqual([0, 0]);
  });

  test('reports its progress in bytes, up to the end', async () => {
    const folder = testDirectory();
    const seen: number[][] = [];
    await writeShardDirectory(join(folder, 'shards'), await twoRankContent(folder), {
      onProgress: (...step) => seen.push(step),
    });
    const total = W1.byteLength + W2.byteLength;
    expect(seen.at(-1)).toEqual([total, total]);
  });
});

describe('writing where something is already', () => {
  test('replaces an earlier shard directory and leaves nothing beside it', async () => {
    const folder = testDirectory();
    const { out } = await write(folder);
    writeFileSync(join(out, 'rank-0', 'stale.onnx'), 'old');
    await write(folder);
    expect(readdirSync(join(out, 'rank-0')).sort()).toEqual(['0.onnx', '1.onnx', 'weights.bin']);
    expect(readdirSync(folder).sort()).toEqual(['model.onnx', 'shards']);
  });

  test('replaces an empty directory, and makes missing parents', async () => {
    const folder = testDirectory();
    mkdirSync(join(folder, 'empty'));
    await write(folder, 'empty');
    await write(folder, 'a/b/c');
    expect(readdirSync(join(folder, 'a', 'b'))).toEqual(['c']);
  });

  test('writes through a link to the directory that it names', async () => {
    const folder = testDirectory();
    const { out } = await write(folder);
    symlinkSync(out, join(folder, 'link'));
    await write(folder, 'link');
    expect(readdirSync(folder).sort()).toEqual(['link', 'model.onnx', 'shards']);
  });

  test('refuses to replace anything else, and touches nothing', async () => {
    const folder = testDirectory();
    const { out } = await write(folder);
    writeFileSync(join(out, 'notes.txt'), 'mine');
    mkdirSync(join(folder, 'photos'));
    writeFileSync(join(folder, 'photos', 'manifest.json'), '{"name": "an extension"}');
    for (const name of ['shards', 'photos']) {
      await expect(write(folder, name)).rejects.toMatchObject({ code: 'WRITE_OCCUPIED' });
    }
    expect(readFileSync(join(out, 'notes.txt'), 'utf8')).toBe('mine');
    expect(readdirSync(folder).sort()).toEqual(['model.onnx', 'photos', 'shards']);
  });

  test('refuses a second write to the same place at the same time', async () => {
    const folder = testDirectory();
    const outcomes = await Promise.allSettled([write(folder), write(folder)]);
    expect(outcomes.map(({ status }) => status).sort()).toEqual(['fulfilled', 'rejected']);
    expect(outcomes.find((outcome) => outcome.status === 'rejected')?.reason).toMatchObject({ code: 'WRITE_BUSY' });
    expect(readdirSync(folder).sort()).toEqual(['model.onnx', 'shards']);
  });
});

describe('content that does not fit together', () => {
  const attempt = async (change: (content: ShardContent) => ShardContent): Promise<unknown> => {
    const folder = testDirectory();
    const error: unknown = await writeShardDirectory(
      join(folder, 'shards'),
      change(await twoRankContent(folder)),
    ).catch((reason: unknown) => reason);
    expect(readdirSync(folder)).toEqual(['model.onnx']);
    return error;
  };
  const withRanks = (change: (rank: ShardContent['ranks'][number]) => ShardContent['ranks'][number]) =>
    attempt((content) => ({ ...content, ranks: content.ranks.map(change) }));

  test('is refused: a value that is neither made nor constant', async () => {
    const error = await withRanks((rank) => withConstant(rank, 'w2', ({ constant: _, ...value }) => value));
    expect(error).toMatchObject({
      code: 'WRITE_CONTENT',
      message: expect.stringMatching(/rank-0\/0\.onnx.* reads "w2" before it is made/),
    });
  });

  test('is refused: a constant of another shape than its slice', async () => {
    const error = await withRanks((rank) => withConstant(rank, 'w2', (value) => ({ ...value, shape: [8, 24] })));
    expect(error).toMatchObject({
      code: 'WRITE_CONTENT',
      message: expect.stringContaining('is float32 [8,24], but its slice is float32 [24,24]'),
    });
  });

  test('is refused: two constants of one name', async () => {
    const error = await withRanks((rank) => withConstant(rank, 'scale', (value) => ({ ...value, name: 'w2' })));
    expect(error).toMatchObject({ code: 'WRITE_CONTENT', message: expect.stringContaining('share a name') });
  });

  test('is refused: a segment outside its rank folder', async () => {
    const error = await withRanks((rank) => ({ ...rank, folder: 'elsewhere' }));
    expect(error).toMatchObject({
      code: 'WRITE_CONTENT',
      message: expect.stringContaining('"elsewhere" is written twice'),
    });
  });

  test('is refused: a manifest that names a segment which is not written', async () => {
    const error = await withRanks((rank) => ({ ...rank, segments: rank.segments.slice(1) }));
    expect(error).toMatchObject({ code: 'SHARD_MANIFEST_INVALID', message: expect.stringContaining('rank-0/0.onnx') });
  });

  test('is refused: a source that was cut since it was read', async () => {
    const folder = testDirectory();
    const content = await twoRankContent(folder);
    truncateSync(join(folder, 'model.onnx'), 5000);
    await expect(writeShardDirectory(join(folder, 'shards'), content)).rejects.toMatchObject({
      code: 'WEIGHTS_TOO_SHORT',
    });
    expect(readdirSync(folder)).toEqual(['model.onnx']);
  });
});
