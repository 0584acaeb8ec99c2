import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import {
  existsSync,
  mkdirSync,
  readdirSync,
  renameSync,
  rmSync,
  truncateSync,
  utimesSync,
  writeFileSync,
} from 'node:fs';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { expect, onTestFinished, test } from 'vitest';
import type { Value } from '#tandem/partition/graph/graph.js';
import { makeNode } from '#tandem/partition/graph/tape.js';
import { type ShardContent, writeShardDirectory } from '#tandem/partition/write/index.js';
import { readManifest } from '#tandem/partition/write/read-manifest.js';
import { testDirectory } from '../support/directory.js';
import { twoRankContent } from './write-content.js';

const MIB = 1024 ** 2;

/** Content of one rank with one weight of any size, whose file is a hole that takes no space. */
const largeContent = (folder: string, bytes: number): ShardContent => {
  const file = join(folder, 'large.bin');
  writeFileSync(file, '');
  truncateSync(file, bytes);
  const shape = [bytes];
  const source = { name: 'w', dtype: 'uint8', shape, file, offset: 0, bytes } as const;
  const weight: Value = { name: 'w', dtype: 'uint8', shape, constant: { kind: 'weight', source } };
  const copy: Value = { name: 'y', dtype: 'uint8', shape };
  const graph = {
    opsets: [],
    irVersion: 8,
    inputs: [],
    outputs: [copy],
    nodes: [makeNode('Identity', 'copy', [weight], copy)],
  };
  return {
    manifest: {
      format_version: 1,
      tool_version: '0.0.0',
      model: { name: 'model.onnx', sha256: '0'.repeat(64) },
      world_size: 1,
      wire_dtype: 'fp32',
      profiles: [
        { name: 'static', dims: {}, inputs: [], outputs: [], wire_bytes_per_step: 0, ranks: [{ segments: [] }] },
      ],
    },
    ranks: [
      {
        folder: 'rank-0',
        segments: [{ file: 'rank-0/0.onnx', graph }],
      },
    ],
  };
};

test('an aborted write ends soon, with the reason, and leaves nothing behind', async () => {
  const folder = testDirectory();
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
  const folder = testDirectory();
  const out = join(folder, 'shards');
  const before = await writeShardDirectory(out, await twoRankContent(folder));
  const signal = AbortSignal.timeout(300);
  await expect(writeShardDirectory(out, largeContent(folder, 4096 * MIB), { signal })).rejects.toThrow();
  expect(await readManifest(out)).toEqual(before);
  expect(readdirSync(folder).sort()).toEqual(['large.bin', 'model.onnx', 'shards']);
});

test('a disk without enough room is told before anything is written', async () => {
  const folder = testDirectory();
  const content = largeContent(folder, 8 * 1024 ** 2 * MIB);
  await expect(writeShardDirectory(join(folder, 'shards'), content)).rejects.toMatchObject({
    code: 'WRITE_DISK_FULL',
    message: expect.stringMatching(/needs 8796093022208 bytes.*only \d+ free/),
  });
  expect(readdirSync(folder)).toEqual(['large.bin']);
});

test('a place below a file is refused', async () => {
  const folder = testDirectory();
  const content = await twoRankContent(folder);
  for (const out of ['model.onnx', 'model.onnx/shards']) {
    await expect(writeShardDirectory(join(folder, out), content)).rejects.toMatchObject({
      code: 'WRITE_DENIED',
      message: expect.stringContaining('part of the path is a file'),
    });
  }
});

/** A process that writes one weight of `bytes` from a hole in `folder/large.bin` to `folder/shards`. */
const WRITER = `
  const { makeNode } = await import('#tandem/partition/graph/tape.js');
  const { writeShardDirectory } = await import('#tandem/partition/write/index.js');
  const [folder, size] = process.argv.slice(1);
  const bytes = Number(size);
  const source = { name: 'w', dtype: 'uint8', shape: [bytes], file: folder + '/large.bin', offset: 0, bytes };
  const weight = { name: 'w', dtype: 'uint8', shape: [bytes], constant: { kind: 'weight', source } };
  const copy = { name: 'y', dtype: 'uint8', shape: [bytes] };
  const graph = { opsets: [], irVersion: 8, inputs: [], outputs: [copy], nodes: [makeNode('Identity', 'copy', [weight], copy)] };
  const ranks = [{ folder: 'rank-0', segments: [{ file: 'rank-0/0.onnx', graph }] }];
  const manifest = { format_version: 1, tool_version: '0', model: { name: 'm', sha256: '0'.repeat(64) }, world_size: 1,
    wire_dtype: 'fp32', profiles: [{ name: 'static', dims: {}, inputs: [], outputs: [], wire_bytes_per_step: 0, ranks: [{ segments: [] }] }] };
  await writeShardDirectory(folder + '/shards', { manifest, ranks }).catch((error) => {
    console.log(error.code);
    process.exitCode = 3;
  });`;

const spawnWriter = (folder: string, bytes: number, prefix: readonly string[] = []): ChildProcess => {
  writeFileSync(join(folder, 'large.bin'), '');
  truncateSync(join(folder, 'large.bin'), bytes);
  const [command = process.execPath, ...rest] = [
    ...prefix,
    process.execPath,
    '--input-type=module',
    '-e',
    WRITER,
    folder,
    String(bytes),
  ];
  const child = spawn(command, rest, { stdio: ['ignore', 'pipe', 'inherit'] });
  onTestFinished(() => void child.kill('SIGKILL'));
  return child;
};

/** Makes a writer's last sign of life a minute old. */
const silence = (partial: string): void => {
  const then = new Date(Date.now() - 60_000);
  utimesSync(join(partial, '.alive'), then, then);
};

const waitForEntry = async (folder: string, prefix: string): Promise<string> => {
  for (let attempt = 0; attempt < 1000; attempt++) {
    const entry = readdirSync(folder).find((name) => name.startsWith(prefix));
    if (entry) return entry;
    await sleep(10);
  }
  throw new Error(`No ${prefix}* appeared.`);
};

test('what a killed run left is swept by the next one, and what a running one writes is not', async () => {
  const folder = testDirectory();
  const child = spawnWriter(folder, 4096 * MIB);
  const partial = await waitForEntry(folder, '.shards.partial-');
  const content = await twoRankContent(folder);
  const out = join(folder, 'shards');
  await writeShardDirectory(out, content);
  expect(readdirSync(folder)).toContain(partial);
  child.kill('SIGKILL');
  await once(child, 'exit');
  silence(join(folder, partial));
  await writeShardDirectory(out, content);
  expect(readdirSync(folder).sort()).toEqual(['large.bin', 'model.onnx', 'shards']);
});

test("containers that share a cache, all with the same process id, leave each other's directories alone", async () => {
  const folder = testDirectory();
  const out = join(folder, 'shards');
  // Another writer of the same place that has just shown itself, named as one of this process's own would have been.
  const other = join(folder, `.shards.partial-${process.pid}`);
  mkdirSync(join(other, 'rank-0'), { recursive: true });
  writeFileSync(join(other, '.alive'), '');
  await writeShardDirectory(out, await twoRankContent(folder));
  expect(existsSync(join(other, 'rank-0'))).toBe(true);
  silence(other);
  await writeShardDirectory(out, await twoRankContent(folder));
  expect(readdirSync(folder).sort()).toEqual(['model.onnx', 'shards']);
});

test('a shard directory whose manifest is damaged or gone is made anew, and anything else is left alone', async () => {
  const folder = testDirectory();
  const out = join(folder, 'shards');
  const content = await twoRankContent(folder);
  for (const damage of [
    () => writeFileSync(join(out, 'manifest.json'), '{'),
    () => rmSync(join(out, 'manifest.json')),
  ]) {
    await writeShardDirectory(out, content);
    damage();
    const again = await writeShardDirectory(out, content);
    expect(await readManifest(out)).toEqual(again);
  }
  writeFileSync(join(out, 'holiday.jpg'), '');
  rmSync(join(out, 'manifest.json'));
  await expect(writeShardDirectory(out, content)).rejects.toMatchObject({ code: 'WRITE_OCCUPIED' });
});

test('a shard directory that had made way for one that never came is put back', async () => {
  const folder = testDirectory();
  const out = join(folder, 'shards');
  const content = await twoRankContent(folder);
  const before = await writeShardDirectory(out, content);
  renameSync(out, join(folder, `.shards.old-${await deadPid()}`));
  const broken = { ...content, manifest: { ...content.manifest, world_size: 3 } };
  await expect(writeShardDirectory(out, broken)).rejects.toMatchObject({ code: 'SHARD_MANIFEST_INVALID' });
  expect(await readManifest(out)).toEqual(before);
  expect(readdirSync(folder).sort()).toEqual(['model.onnx', 'shards']);
});

/** The pid of a process that has just ended. */
const deadPid = async (): Promise<number> => {
  const child = spawn(process.execPath, ['-e', '']);
  await once(child, 'exit');
  return child.pid ?? 0;
};

test('a write that the system cuts short says so and leaves nothing behind', async () => {
  const folder = testDirectory();
  // A limit of 8 MiB on any file (in blocks of 512 bytes) stands for a full disk: the error comes in the middle of a write.
  const child = spawnWriter(folder, 64 * MIB, ['sh', '-c', 'ulimit -f 16384; exec "$0" "$@"']);
  const [said, [exit]] = await Promise.all([child.stdout?.setEncoding('utf8').toArray(), once(child, 'exit')]);
  expect({ said: said?.join(''), exit }).toEqual({ said: 'WRITE_DISK_FULL\n', exit: 3 });
  expect(readdirSync(folder)).toEqual(['large.bin']);
});
