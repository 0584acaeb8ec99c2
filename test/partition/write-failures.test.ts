import { type ChildProcess, spawn } from 'node:child_process';
import { mkdirSync, readdirSync, renameSync, truncateSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import { readManifest } from '#tandem/partition/manifest.js';
import { createModel, createTensor, DataType } from '#tandem/partition/onnx/index.js';
import { type ShardContent, writeShardDirectory } from '#tandem/partition/write.js';
import { expect, onTestFinished, test } from 'vitest';
import { temporaryFolder } from './read-models.js';
import { twoRankContent } from './write-content.js';

const MIB = 1024 ** 2;

/** Content of one rank with one weight of any size, whose file is a hole that takes no space. */
const largeContent = (folder: string, bytes: number): ShardContent => {
  const file = join(folder, 'large.bin');
  writeFileSync(file, '');
  truncateSync(file, bytes);
  const shape = [bytes];
  const source = { name: 'w', dtype: 'uint8', shape, file, offset: 0, bytes } as const;
  const tensor = createTensor({ name: 'w', dims: shape.map(BigInt), dataType: DataType.UINT8 });
  return {
    manifest: {
      format_version: 1,
      tool_version: '0.0.0',
      model: { name: 'model.onnx', sha256: '0'.repeat(64) },
      world_size: 1,
      wire_dtype: 'fp32',
      profiles: [{ name: 'static', dims: {}, inputs: [], outputs: [], wire_bytes_per_step: 0, ranks: [{ segments: [] }] }],
    },
    ranks: [
      {
        folder: 'rank-0',
        slices: [{ name: 'w', source, axis: 0, ranges: [[0, bytes]] }],
        segments: [{ file: 'rank-0/0.onnx', model: createModel({ graph: { initializer: [tensor] } }) }],
      },
    ],
  };
};

test('an aborted write ends soon, with the reason, and leaves nothing behind', async () => {
  const folder = temporaryFolder();
  const controller = new AbortController();
  const writing = writeShardDirectory(join(folder, 'shards'), largeContent(folder, 4096 * MIB), {
    signal: controller.signal,
    onProgress: (done) => {
      if (done > 0) controller.abort(new Error('enough'));
    },
  });
  await expect(writing).rejects.toThrow('enough');
  expect(readdirSync(folder)).toEqual(['large.bin']);
});

test('an aborted write keeps the shard directory that was there', async () => {
  const folder = temporaryFolder();
  const out = join(folder, 'shards');
  const before = await writeShardDirectory(out, await twoRankContent(folder));
  const signal = AbortSignal.timeout(300);
  await expect(writeShardDirectory(out, largeContent(folder, 4096 * MIB), { signal })).rejects.toThrow();
  expect(await readManifest(out)).toEqual(before);
  expect(readdirSync(folder).sort()).toEqual(['large.bin', 'model.onnx', 'shards']);
});

test('a disk without enough room is told before anything is written', async () => {
  const folder = temporaryFolder();
  const content = largeContent(folder, 8 * 1024 ** 2 * MIB);
  await expect(writeShardDirectory(join(folder, 'shards'), content)).rejects.toMatchObject({
    code: 'WRITE_DISK_FULL',
    message: expect.stringMatching(/needs 8796093022208 bytes.*only \d+ free/),
  });
  expect(readdirSync(folder)).toEqual(['large.bin']);
});

test('a place below a file is refused', async () => {
  const folder = temporaryFolder();
  const content = await twoRankContent(folder);
  for (const out of ['model.onnx', 'model.onnx/shards']) {
    await expect(writeShardDirectory(join(folder, out), content)).rejects.toMatchObject({
      code: 'WRITE_DENIED',
      message: expect.stringContaining('part of the path is a file'),
    });
  }
});

test.runIf(process.platform === 'linux')('a read-only file system is refused', async () => {
  const content = await twoRankContent(temporaryFolder());
  await expect(writeShardDirectory('/proc/tandem/shards', content)).rejects.toMatchObject({
    code: expect.stringMatching(/^WRITE_/),
    message: expect.stringContaining('cannot be written'),
  });
});

const WRITER = `
  const { writeShardDirectory } = await import('#tandem/partition/write.js');
  const [out, content] = process.argv.slice(1);
  const revive = (key, value) => (typeof value === 'string' && /^-?\\d+n$/.test(value) ? BigInt(value.slice(0, -1)) : value);
  await writeShardDirectory(out, JSON.parse(content, revive));`;
