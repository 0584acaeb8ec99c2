import { open, readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { expect, it } from 'vitest';
import type { Cluster } from '#tandem/coordinator/cluster/index.js';
import { fixture, launchFixture, mlpInput, until } from './helpers.js';

/** In which each of the three segments has been rehearsed once. */
const REHEARSED_MS = 2000;

/** In one place of memory only: a mapping's own copy, or the heap. */
const damageIn = async (pid: number, from: Buffer, to: Buffer): Promise<number> => {
  const memory = await open(`/proc/${pid}/mem`, 'r+');
  let places = 0;
  try {
    for (const line of (await readFile(`/proc/${pid}/maps`, 'utf8')).split('\n')) {
      const [, start = '', end = '', mode = ''] = /^(\w+)-(\w+) (\S+)/.exec(line) ?? [];
      const [begin, size] = [Number.parseInt(start, 16), Number.parseInt(end, 16) - Number.parseInt(start, 16)];
      // Shared pages are the file's own, and those of the machine's vdso cannot be read.
      if (!/^r..p/.test(mode) || size > 2 ** 28 || /\[v/.test(line)) continue;
      const bytes = Buffer.alloc(size);
      const { bytesRead } = await memory.read(bytes, 0, size, begin).catch(() => ({ bytesRead: 0 }));
      for (let at = bytes.indexOf(from); at >= 0 && at < bytesRead; at = bytes.indexOf(from, at + 1)) {
        await memory.write(to, 0, to.length, begin + at);
        places += 1;
      }
    }
  } finally {
    await memory.close();
  }
  return places;
};

/** Makes the largest weights of a rank others, wherever its process holds them; the file stays as it is. */
const damageMemory = async (cluster: Cluster, rank: number): Promise<void> => {
  const weights = await readFile(join(fixture('mlp-2'), `rank-${rank}/weights.bin`));
  const from = weights.subarray(0, 16);
  const places = await damageIn(cluster.workers[rank]?.pid ?? 0, from, Buffer.from(from.map((byte) => byte ^ 0x10)));
  expect(places).toBeGreaterThan(0);
};

const stepped = async (cluster: Cluster): Promise<readonly string[]> =>
  (await cluster.step([mlpInput()])).ranks.map((rank) => rank.outputs_sha256);

it('finds weights that have changed in the memory of a rank, which no look at its files can, and loads that rank again', async () => {
  const notices: string[] = [];
  const restart = { maxAttempts: 3, backoffMs: 20, capMs: 100 };
  const cluster = await launchFixture('mlp-2', { restart, onNotice: (notice) => notices.push(notice) });
  try {
    const digests = await stepped(cluster);
    await delay(REHEARSED_MS);
    expect(cluster.state).toBe('ready');
    await damageMemory(cluster, 1);
    await until(() => cluster.state === 'recovering', 60_000);
    await until(() => cluster.state === 'ready', 60_000);
    expect(await stepped(cluster)).toEqual(digests);
    const told = notices.filter((notice) => /rank 1 failed \(SEGMENT_CHANGED\): Segment \d computes/.test(notice));
    expect(told).toHaveLength(1);
  } finally {
    await cluster.close();
  }
});
