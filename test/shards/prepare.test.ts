import { readFile, rename, rm, stat, truncate, utimes, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { beforeAll, describe, expect, it } from 'vitest';
import { uniformDevices } from '#tandem/coordinator/cli/options.js';
import type { Hooks } from '#tandem/coordinator/hooks.js';
import { findDenoiserModel } from '#tandem/coordinator/shards/model.js';
import { prepareShards } from '#tandem/coordinator/shards/prepare.js';
import type { ShardRequest } from '#tandem/coordinator/shards/request.js';
import { MANIFEST_FILE } from '#tandem/partition/write/manifest.js';
import { readManifest } from '#tandem/partition/write/read-manifest.js';
import { node, writeSmallModel } from '../partition/small-model.js';
import { fileDirectory } from '../support/directory.js';

/** What is tested is when shards are made; a model of two products is made in a moment. */
const MODEL = {
  inputs: { x: ['rows', 96] },
  weights: { w1: [96, 512], w2: [512, 96] },
  nodes: [node('MatMul', ['x', 'w1'], 'h'), node('Relu', ['h'], 'r'), node('MatMul', ['r', 'w2'], 'y')],
  outputs: ['y'],
};
const DIMS = { rows: 256 };
const scratch = fileDirectory();
let model = '';

beforeAll(() => {
  model = writeSmallModel(scratch, MODEL);
});

const prepare = async (changes: Partial<ShardRequest> = {}, hooks: Hooks = {}) => {
  const notices: string[] = [];
  const request: ShardRequest = {
    model: findDenoiserModel(model),
    devices: uniformDevices(2, 'cpu', 1),
    dims: DIMS,
    wire: 'fp32',
    root: join(scratch, 'shards'),
    ...changes,
  };
  const shards = await prepareShards(request, { ...hooks, onNotice: (notice) => notices.push(notice) });
  return { ...shards, notice: notices.join('\n') };
};

describe('prepared shards', () => {
  it('are made once and reused, whatever the number of threads', async () => {
    const first = await prepare();
    expect(first.notice).toMatch(/^Partitioning model into .*\(none are prepared yet\)\.$/);
    expect(first.profile.dims).toEqual(DIMS);
    const second = await prepare({ devices: uniformDevices(2, 'cpu', 4) });
    expect(second.notice).toBe(`Reusing the shards in ${first.directory}.`);
    expect(second.partitionMs).toBe(0);
    expect(second.manifest).toEqual(first.manifest);
  });

  it.each([
    ['the world size', { devices: uniformDevices(3, 'cpu', 1) }],
    ['a speed', { devices: uniformDevices(2, 'cpu', 1).map((device, rank) => ({ ...device, speed: 1 + rank })) }],
    ['the dims', { dims: { rows: 128 } }],
    ['the wire type', { wire: 'fp16' as const }],
    ['the kind of weights', { quantize: 'int8' as const }],
  ])('are others when %s changes', async (_, changes) => {
    const { directory } = await prepare();
    const other = await prepare(changes);
    expect(other.directory).not.toBe(directory);
    expect(other.notice).toMatch(/^Partitioning/);
  });

  it('share nothing with shards of another size that are damaged, or that say that their weights lie elsewhere', async () => {
    const root = join(scratch, 'damaged-sizes');
    const first = await prepare({ root });
    const [weights, list] = ['weights.bin', 'contents.json'].map((file) => join(first.directory, 'rank-0', file));
    const [bytes, text] = [await readFile(weights ?? ''), await readFile(list ?? '', 'utf8')];
    const places: [string, number][] = JSON.parse(text);
    const turned = JSON.stringify(places.map(([digest], index) => [digest, places.at(-1 - index)?.[1]]));
    bytes.writeUInt8(bytes.readUInt8(5000) ^ 1, 5000);
    for (const [index, [path = '', content]] of (
      [
        [list, turned],
        [weights, bytes],
      ] as const
    ).entries()) {
      const kept = await readFile(path);
      await rm(path);
      await writeFile(path, content);
      const other = await prepare({ root, dims: { rows: 128 + 64 * index } });
      expect(other.manifest.ranks.map(({ shared }) => shared !== undefined)).toEqual([false, true]);
      await rm(other.directory, { recursive: true });
      await rm(path);
      await writeFile(path, kept);
    }
  });

  it('leave the thread that asked for them free while they are planned and made', async () => {
    const before = performance.eventLoopUtilization();
    const unet = findDenoiserModel('models/emoji-sd/unet/model.onnx');
    const dims = { batch_size: 1, height: 16, width: 16, sequence_length: 77 };
    await prepare({ model: unet, dims, root: join(scratch, 'free') });
    const { active, idle } = performance.eventLoopUtilization(before);
    expect(active).toBeLessThan(idle / 2);
  });

  it('share the weights that another size of the same model has', async () => {
    const root = join(scratch, 'sizes');
    const first = await prepare({ root });
    const second = await prepare({ root, dims: { rows: 512 } });
    for (const [rank, { shared = '', weights }] of second.manifest.ranks.entries()) {
      const theirs = await stat(join(first.directory, first.manifest.ranks[rank]?.weights ?? ''));
      const [linked, own] = await Promise.all([shared, weights].map((path) => stat(join(second.directory, path))));
      expect(linked?.ino).toBe(theirs.ino);
      expect(own?.size).toBeLessThan(0.2 * theirs.size);
    }
    expect(first.manifest.ranks.every(({ shared }) => shared === undefined)).toBe(true);
  });

  it('are made again when one of their files is cut short', async () => {
    const { directory, manifest } = await prepare();
    const weights = manifest.ranks[1]?.weights ?? '';
    const { size } = await stat(join(directory, weights));
    await truncate(join(directory, weights), size - 1);
    const repaired = await prepare();
    expect(repaired.directory).toBe(directory);
    expect(repaired.notice).toContain(`(${weights} is missing or has another size)`);
    expect((await stat(join(directory, weights))).size).toBe(size);
  });

  it('are made again, once, when they were prepared for another version of ONNX Runtime', async () => {
    const { directory, manifest } = await prepare();
    const text = JSON.stringify(manifest).replaceAll(/"onnxruntime_version":"[^"]+"/g, '"onnxruntime_version":"1.0.0"');
    await writeFile(join(directory, MANIFEST_FILE), text);
    const remade = await prepare();
    expect(remade.directory).toBe(directory);
    expect(remade.notice).toMatch(/^Partitioning .*\(rank 0 is prepared for provider "cpu", ONNX Runtime 1\.0\.0, /);
    expect(remade.manifest).toEqual(manifest);
    expect((await prepare()).notice).toBe(`Reusing the shards in ${directory}.`);
  });

  it('are others when another model of the same path, size and time has taken the place of this one', async () => {
    const then = new Date(Date.now() - 60_000);
    await utimes(model, then, then);
    const { directory } = await prepare();
    await prepare();
    const bytes = await readFile(model);
    // A bit of a weight: of a file in its place, and of the same file.
    bytes.writeUInt8(bytes.readUInt8(bytes.length >> 1) ^ 1, bytes.length >> 1);
    await writeFile(`${model}.new`, bytes);
    await rename(`${model}.new`, model);
    await utimes(model, then, then);
    const other = await prepare();
    expect(other.directory).not.toBe(directory);
    expect(other.manifest.model.sha256).not.toBe((await readManifest(directory)).model.sha256);
    bytes.writeUInt8(bytes.readUInt8(bytes.length >> 1) ^ 1, bytes.length >> 1);
    await writeFile(model, bytes);
    await utimes(model, then, then);
    expect((await prepare()).directory).toBe(directory);
  });

  it('are the same when the model was only touched', async () => {
    const { directory } = await prepare();
    await utimes(model, new Date(), new Date(Date.now() + 5_000));
    expect((await prepare()).directory).toBe(directory);
  });

  it('that are damaged are made anew as they were, and whole ones are left as they are', async () => {
    const { directory, manifest, remake } = await prepare();
    const weights = join(directory, manifest.ranks[1]?.weights ?? '');
    const [before, identity] = [await readFile(weights), (await stat(weights)).ino];
    const { signal } = new AbortController();
    await remake?.(signal);
    expect((await stat(weights)).ino).toBe(identity);
    const damaged = Buffer.from(before);
    damaged.writeUInt8(damaged.readUInt8(damaged.length >> 1) ^ 1, damaged.length >> 1);
    await rm(weights);
    await writeFile(weights, damaged);
    await remake?.(signal);
    expect((await readFile(weights)).equals(before)).toBe(true);
    await writeFile(join(directory, MANIFEST_FILE), '{').catch(() => rm(join(directory, MANIFEST_FILE)));
    await remake?.(signal);
    expect(await readManifest(directory)).toEqual(manifest);
  });

  it('are not begun when the caller has cancelled', async () => {
    const reason = new Error('enough');
    await expect(prepare({}, { signal: AbortSignal.abort(reason) })).rejects.toBe(reason);
  });
});
