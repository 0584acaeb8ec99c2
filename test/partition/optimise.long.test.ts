import { cpSync, readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { openSession } from '#tandem/common/onnxruntime.js';
import type { Node } from '#tandem/partition/graph/graph.js';
import { decodeModel, type ModelProto } from '#tandem/partition/onnx/index.js';
import { writeShardDirectory } from '#tandem/partition/write/index.js';
import type { Manifest, OptimisedFor } from '#tandem/partition/write/manifest.js';
import { openOptimised } from '#tandem/partition/write/optimise/open-optimised.js';
import { checkOptimised, findOptimisedMismatch, findTarget } from '#tandem/partition/write/optimise/target.js';
import { errorOf, flipByte } from '../cluster/helpers.js';
import { testDirectory } from '../support/directory.js';
import { cpus, launch, predict, relativeError, shard, withUnet } from './optimise-models.js';
import { twoRankContent, withNodes } from './write-content.js';

const MEBIBYTE = 2 ** 20;
const CPU = { provider: 'cpu' } as const;

const target = async (): Promise<OptimisedFor> => {
  const found = await findTarget('cpu');
  if (!found) throw new Error('Expected segments for CPUs to be prepared.');
  return found;
};

const totalBytes = (manifest: Manifest): number => manifest.files.reduce((sum, { bytes }) => sum + bytes, 0);

const segmentCount = (manifest: Manifest): number => manifest.profiles[0]?.ranks[0]?.segments.length ?? 0;

const graphs = (directory: string, manifest: Manifest): readonly ModelProto[] =>
  manifest.files
    .filter(({ path }) => path.endsWith('.onnx'))
    .map(({ path }) => decodeModel(readFileSync(join(directory, path))));

/** The same directory as if something else had prepared rank 1. */
const pretend = (directory: string, manifest: Manifest, change: Partial<OptimisedFor>): Manifest => {
  const ranks = manifest.ranks.map(({ prepared, ...entry }) =>
    prepared && entry.rank === 1
      ? { ...entry, prepared: { ...prepared, ...change } }
      : { ...entry, ...(prepared ? { prepared } : {}) },
  );
  const changed = { ...manifest, ranks };
  writeFileSync(join(directory, 'manifest.json'), JSON.stringify(changed));
  return changed;
};

describe('a prepared shard directory of a real UNet', () => {
  let end = (): void => undefined;
  let folder = '';
  let model = '';
  let ended: Promise<void>;
  let raw: Manifest;
  let prepared: Manifest;

  beforeAll(async () => {
    const ready = new Promise<void>((resolve, reject) => {
      ended = withUnet(async (...unet) => {
        [folder, model] = unet;
        raw = await shard(model, join(folder, 'raw'), 2, { optimise: false });
        prepared = await shard(model, join(folder, 'prepared'), 2);
        resolve();
        await new Promise<void>((done) => {
          end = done;
        });
      });
      ended.catch(reject);
    });
    await ready;
  });
  afterAll(async () => {
    end();
    await ended;
  });

  const copy = (name: string): string => {
    cpSync(join(folder, 'prepared'), join(folder, name), { recursive: true });
    return join(folder, name);
  };

  test('says what it was prepared for; an unprepared one says nothing', async () => {
    expect(prepared.ranks.map((rank) => rank.prepared)).toEqual([await target(), await target()]);
    expect(raw.ranks.every((rank) => rank.prepared === undefined)).toBe(true);
  });

  test('predicts what the unprepared one predicts', async () => {
    const expected = await predict(join(folder, 'raw'), raw);
    const found = await predict(join(folder, 'prepared'), prepared);
    expect(relativeError(found, expected)).toBeLessThan(1e-5);
  });

  test('holds convolutions in the layout of the processor, and nothing that is not read', () => {
    const all = graphs(join(folder, 'prepared'), prepared).flatMap(({ graph }) => (graph ? [graph] : []));
    expect(all.some(({ node }) => node.some(({ domain }) => domain.startsWith('com.microsoft')))).toBe(true);
    for (const { node, output, initializer } of all) {
      const read = new Set([...node.flatMap(({ input }) => input), ...output.map(({ name }) => name)]);
      expect(initializer.filter(({ name }) => !read.has(name))).toEqual([]);
    }
  });

  test('is about as large as the unprepared one, with weights on pages and no scratch left', () => {
    // Channels are padded to whole vector registers, which narrow layers as these feel.
    expect(totalBytes(prepared)).toBeLessThan(totalBytes(raw) * 1.08);
    const found = readdirSync(join(folder, 'prepared'), { recursive: true, withFileTypes: true });
    const files = found.filter((entry) => entry.isFile() && !entry.name.endsWith('.proved'));
    expect(files).toHaveLength(prepared.files.length + 1);
    expect(
      found
        .filter((entry) => entry.isDirectory())
        .map(({ name }) => name)
        .sort(),
    ).toEqual(['rank-0', 'rank-1']);
    const offsets = graphs(join(folder, 'prepared'), prepared)
      .flatMap(({ graph }) => graph?.initializer ?? [])
      .flatMap(({ externalData }) =>
        externalData.filter(({ key }) => key === 'offset').map(({ value }) => Number(value)),
      );
    expect(offsets.length).toBeGreaterThan(10);
    expect(offsets.every((offset) => offset % 4096 === 0)).toBe(true);
  });

  test('has the same bytes when it is made again', async () => {
    const again = await shard(model, join(folder, 'again'), 2);
    expect(again).toEqual(prepared);
  });

  test.each([1, 2])('predicts the same from segments that were divided, on %i ranks', async (ranks) => {
    const out = join(folder, `divided-${ranks}`);
    const divided = await shard(model, out, ranks, { segmentWeightsLimit: MEBIBYTE / 4 });
    const undivided = ranks === 1 ? 1 : segmentCount(prepared);
    expect(segmentCount(divided)).toBeGreaterThan(undivided);
    const expected = await predict(join(folder, 'raw'), raw);
    expect(relativeError(await predict(out, divided), expected)).toBeLessThan(1e-5);
  });

  test('is refused for another version of ONNX Runtime, processor or provider, by name', async () => {
    const directory = copy('elsewhere');
    for (const [change, expected] of [
      [{ onnxruntime_version: '1.0.0' }, /ONNX Runtime 1\.0\.0/],
      [{ layout: 'f'.repeat(64) }, /processor layout ffffffff/],
      [{ provider: 'webgpu' }, /provider "webgpu"/],
    ] as const) {
      const error = await errorOf(launch(directory, pretend(directory, prepared, change)));
      expect(error.code).toBe('SHARD_PREPARED');
      expect(error.message).toMatch(/^The segments cannot run here: rank 1 is prepared for /);
      expect(error.message).toMatch(expected);
    }
  });

  test('fails to load when a byte of its weights has changed', async () => {
    const directory = copy('damaged');
    await flipByte(join(directory, 'rank-1', 'weights.bin'));
    const error = await errorOf(launch(directory, prepared));
    expect(JSON.stringify([error.message, error.problems])).toMatch(
      /rank-1\/weights.bin.* has changed: its checksum is/,
    );
  });

  test('leaves the ranks of other providers unprepared, and a machine that would prepare them says so', async () => {
    const [cpu] = cpus(1);
    if (!cpu) throw new Error('Expected a device.');
    const mixed = await shard(model, join(folder, 'mixed'), 2, { devices: [cpu, { ...cpu, provider: 'webgpu' }] });
    expect(mixed.ranks.map((rank) => rank.prepared?.provider)).toEqual(['cpu', undefined]);
    expect(await findOptimisedMismatch(mixed, [CPU, { provider: 'webgpu' }])).toBeUndefined();
    expect(await findOptimisedMismatch(mixed, [CPU, CPU])).toMatch(
      /^rank 1 is prepared for nothing in particular; needed is /,
    );
    await checkOptimised(mixed, [CPU, CPU]);
  });
});

test('a weight under two names, in two segments, is stored once', async () => {
  const folder = testDirectory();
  const content = await twoRankContent(folder);
  const prepared = await target();
  const out = join(folder, 'shards');
  const manifest = await writeShardDirectory(out, {
    ...content,
    ranks: content.ranks.map((rank) => ({ ...rank, prepared })),
  });
  const first = await openOptimised(join(out, 'rank-0', '0.onnx'), { ...CPU, threads: 1 });
  const second = await openSession(join(out, 'rank-0', '1.onnx'), { ...CPU, optimization: 'all' });
  expect(first.outputs).toEqual(second.outputs);
  await Promise.all([first.dispose(), second.dispose()]);
  const places = graphs(out, manifest).map(({ graph }) =>
    (graph?.initializer ?? []).map(({ externalData }) => externalData.map(({ value }) => value).join(' ')).sort(),
  );
  expect(places[0]).toEqual(places[1]);
  expect(manifest.files.find(({ path }) => path === 'rank-0/weights.bin')?.bytes).toBeLessThan(3 * 4096);
});

test('a segment that ONNX Runtime cannot optimise fails by name, and leaves nothing behind', async () => {
  const folder = testDirectory();
  const content = await twoRankContent(folder);
  const prepared = await target();
  const breakProducts = (node: Node) => (node.op === 'Mul' ? { ...node, op: 'NoSuchOperator' } : node);
  const broken = content.ranks.map((rank) => withNodes({ ...rank, prepared }, breakProducts));
  const error = await errorOf(writeShardDirectory(join(folder, 'shards'), { ...content, ranks: broken }));
  expect(error.code).toBe('PREPARE_FAILED');
  expect(error.message).toMatch(/cannot optimise "rank-\d\/0\.onnx" for provider "cpu": .*NoSuchOperator/s);
  expect(readdirSync(folder).filter((name) => name.includes('shards'))).toEqual([]);
});
