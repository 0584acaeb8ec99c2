import { existsSync } from 'node:fs';
import { cp, open, readdir, readFile, rm, writeFile } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import { expect, it, vi } from 'vitest';
import type { Cluster, LaunchOptions, RestartPolicy } from '#tandem/coordinator/cluster/index.js';
import { PROTOCOL_VERSION } from '#tandem/shard-worker/protocol.js';
import {
  errorOf,
  fixture,
  flipByte,
  isAlive,
  iterations,
  LONG_STEP,
  launchDirectory,
  launchFixture,
  mlpInput,
  until,
  withCopy,
  withDirectory,
} from './helpers.js';

const restart: RestartPolicy = { maxAttempts: 3, backoffMs: 20, capMs: 100 };

const digestsOf = async (cluster: Cluster): Promise<readonly string[]> =>
  (await cluster.step([mlpInput()])).ranks.map((rank) => rank.outputs_sha256);

const killRank = (cluster: Cluster, rank: number): void => {
  process.kill(cluster.workers[rank]?.pid ?? 0, 'SIGKILL');
};

/** A cluster on a copy of shards that can be damaged, with what makes them anew. */
const withDamageable = (
  overrides: Partial<LaunchOptions>,
  work: (directory: string, options: Partial<LaunchOptions>, notices: string[]) => Promise<void>,
): Promise<void> =>
  withCopy('mlp-2', (directory) => {
    const notices: string[] = [];
    const remake = async (): Promise<void> => {
      await rm(directory, { recursive: true, force: true });
      await cp(fixture('mlp-2'), directory, { recursive: true });
    };
    return work(directory, { repair: remake, onNotice: (notice) => notices.push(notice), ...overrides }, notices);
  });

it.each([
  ['weights of one rank', ['rank-1/weights.bin']],
  ['weights and a graph of both', ['rank-0/segment-1.onnx', 'rank-0/weights.bin', 'rank-1/weights.bin']],
])('makes damaged shards anew at the start: %s', async (_, files) => {
  await withDamageable({}, async (directory, options, notices) => {
    for (const file of files) await flipByte(join(directory, file));
    const cluster = await launchDirectory(directory, options);
    await digestsOf(cluster);
    await cluster.close();
    expect(
      notices.filter((notice) => /SHARD_FILES.*Shards are derived data: making them anew/.test(notice)),
    ).toHaveLength(1);
  });
});

it('makes them anew only once, and then says what is wrong', async () => {
  const repair = vi.fn(async () => undefined);
  await withDamageable({ repair }, async (directory, options) => {
    await flipByte(join(directory, 'rank-1/weights.bin'));
    const error = await errorOf(launchDirectory(directory, options));
    expect(error.message).toMatch(/SHARD_FILES.*"rank-1\/weights.bin" has changed/);
    expect(repair).toHaveBeenCalledTimes(1);
  });
});

it('says why they cannot be made anew, and leaves no process', async () => {
  const repair = async (): Promise<void> => {
    throw new Error('the model is gone too');
  };
  await withDamageable({ repair }, async (directory, options) => {
    await flipByte(join(directory, 'rank-1/weights.bin'));
    expect((await errorOf(launchDirectory(directory, options))).message).toMatch(/the model is gone too/);
  });
});

it('sees that mapped weights have changed below a running worker, and computes with what is right again', async () => {
  await withDamageable({ restart }, async (directory, options, notices) => {
    const cluster = await launchDirectory(directory, options);
    const expected = await digestsOf(cluster);
    const file = await open(join(directory, 'rank-1/weights.bin'), 'r+');
    await file.write(Buffer.from([0x41, 0x42, 0x43, 0x44]), 0, 4, 0);
    await file.close();
    await until(() => cluster.state === 'recovering', 10_000);
    await until(() => cluster.state === 'ready', 10_000);
    expect(notices[0]).toMatch(/"rank-1\/weights.bin" in ".*" has changed while it was in use/);
    expect(await digestsOf(cluster)).toEqual(expected);
    await cluster.close();
  });
});

it('recovers a rank whose shards were removed while it ran, and without a way to make them says what is missing', async () => {
  await withDamageable({ restart }, async (directory, options) => {
    const cluster = await launchDirectory(directory, options);
    const expected = await digestsOf(cluster);
    await rm(directory, { recursive: true });
    killRank(cluster, 0);
    await until(() => cluster.state === 'recovering');
    expect(await digestsOf(cluster)).toEqual(expected);
    await cluster.close();
  });
  await withCopy('mlp-2', async (directory) => {
    const cluster = await launchDirectory(directory, { restart });
    await rm(directory, { recursive: true });
    const failing = new Promise<Error>((resolve) => cluster.onFailure(resolve));
    killRank(cluster, 0);
    expect((await failing).message).toMatch(/lost 4 times.*SHARD_DIRECTORY_MISSING.*does not exist/);
  });
});

it.each(['detached', 'ordinary'])(
  'recovers a rank after the directory of its sockets was removed: %s workers',
  async (kind) => {
    await withDirectory(async (parent) => {
      const notices: string[] = [];
      const directory = join(parent, 'cluster');
      vi.stubEnv('TMPDIR', parent);
      const detached = kind === 'detached' ? { detached: { directory, keepWarmMs: 10_000 } } : {};
      const cluster = await launchFixture('mlp-2', {
        restart,
        ...detached,
        onNotice: (notice) => notices.push(notice),
      });
      vi.unstubAllEnvs();
      const expected = await digestsOf(cluster);
      const before = cluster.workers.map(({ pid }) => pid);
      for (const name of await readdir(parent)) await rm(join(parent, name), { recursive: true });
      expect(await digestsOf(cluster)).toEqual(expected);
      killRank(cluster, 1);
      await until(() => cluster.state === 'recovering');
      expect(await digestsOf(cluster)).toEqual(expected);
      expect(notices.join('\n')).toMatch(/sockets was removed/);
      killRank(cluster, 0);
      await until(() => cluster.state === 'recovering');
      expect(await digestsOf(cluster)).toEqual(expected);
      await cluster.close();
      expect(before.some(isAlive)).toBe(false);
      expect(await readdir(parent)).toEqual([]);
    });
  },
);

it('tries again where a worker cannot be started, and says why when it gives up', async () => {
  await withDirectory(async (parent) => {
    const directory = join(parent, 'cluster');
    const detached = { directory, keepWarmMs: 10_000 };
    const notices: string[] = [];
    const launch = () => launchFixture('mlp-2', { restart, detached, onNotice: (notice) => notices.push(notice) });
    const inTheWay = async (): Promise<void> => {
      await rm(directory, { recursive: true });
      await writeFile(directory, '');
    };
    const first = await launch();
    await inTheWay();
    killRank(first, 1);
    await until(() => notices.some((notice) => /could not be started again: .* is no directory/.test(notice)));
    await rm(directory);
    await until(() => first.state === 'ready');
    await first.close();
    const second = await launch();
    const failing = new Promise<Error>((resolve) => second.onFailure(resolve));
    await inTheWay();
    killRank(second, 0);
    expect((await failing).message).toMatch(/lost 4 times.*could not be started again.*is no directory/);
    await rm(directory);
  });
});

it('sees within a second that a worker is stopped in a step, and before it has said anything', async () => {
  const cluster = await launchFixture('slow');
  const failing = errorOf(cluster.network().step(iterations(LONG_STEP)));
  await delay(300);
  const start = performance.now();
  process.kill(cluster.workers[1]?.pid ?? 0, 'SIGSTOP');
  expect((await failing).code).toBe('WORKER_UNRESPONSIVE');
  const inStep = performance.now() - start;
  await withDirectory(async (directory) => {
    const workerEntry = join(directory, 'worker.mjs');
    await writeFile(workerEntry, 'process.kill(process.pid, "SIGSTOP");');
    const begun = performance.now();
    expect((await errorOf(launchFixture('mlp-2', { workerEntry }))).code).toBe('WORKER_UNRESPONSIVE');
    console.log(
      `stopped in a step: seen after ${Math.round(inStep)} ms; before its hello: launch failed after ${Math.round(performance.now() - begun)} ms`,
    );
    expect(performance.now() - begun).toBeLessThan(5000);
  });
  expect(inStep).toBeLessThan(1000);
});

/** A worker that computes nothing and whose outputs are its own for the first steps. */
const wayward = (transport: string, wire: string): string => `
  import { ControlClient } from ${JSON.stringify(transport)};
  import { decodeToWorker, encodeMessage } from ${JSON.stringify(wire)};
  const value = (name) => process.argv[process.argv.indexOf(name) + 1];
  const rank = Number(value('--rank'));
  const control = new ControlClient(value('--control'), process.env.TANDEM_WORKER_ID);
  const say = (message) => control.send(encodeMessage(message));
  const memory = { private_bytes: 1, peak_private_bytes: 1, mapped_bytes: 1 };
  const times = { total_ms: 1, compute_ms: 1, exchange_ms: 0, sent_bytes: 0, copied_bytes: 0 };
  let steps = 0;
  await say({ kind: 'hello', rank, pid: process.pid, protocol_version: ${PROTOCOL_VERSION}, exchange_endpoint: value('--exchange') });
  for await (const frame of control.messages()) {
    const order = decodeToWorker(frame);
    if (order.kind === 'load') await say({ kind: 'loaded', load_ms: 1, weight_bytes: 1, memory });
    if (order.kind === 'ping') await say({ kind: 'pong', id: order.id, progress: 0, awaiting: [] });
    if (order.kind === 'shutdown') process.exit(0);
    if (order.kind === 'step') {
      steps += 1;
      const outputs_sha256 = steps <= Number(process.env.WAYWARD_STEPS) ? String(rank) : 'agreed';
      await say({ kind: 'step_done', id: order.id, outputs: [], outputs_sha256, times, memory });
    }
  }`;

it('repeats a step whose ranks disagree, and says so when they do so again', async () => {
  await withDirectory(async (directory) => {
    const workerEntry = join(directory, 'worker.mjs');
    const built = (name: string): string =>
      fileURLToPath(new URL(`../../dist/shard-worker/${name}.js`, import.meta.url));
    await writeFile(workerEntry, wayward(built('transport'), built('wire')));
    const notices: string[] = [];
    const launch = async (steps: number): Promise<Cluster> => {
      vi.stubEnv('WAYWARD_STEPS', String(steps));
      return launchFixture('mlp-2', { workerEntry, restart, onNotice: (notice) => notices.push(notice) });
    };
    const once = await launch(1);
    expect(await digestsOf(once)).toEqual(['agreed', 'agreed']);
    await once.close();
    const twice = await launch(2);
    expect((await errorOf(digestsOf(twice))).code).toBe('RANKS_DISAGREE');
    await twice.close();
    vi.unstubAllEnvs();
  });
});

it('writes shards that nobody changes by mistake', async () => {
  const { writeShardDirectory } = await import('#tandem/partition/write/index.js');
  const { twoRankContent } = await import('../partition/write-content.js');
  await withDirectory(async (directory) => {
    const out = join(directory, 'shards');
    const manifest = await writeShardDirectory(out, await twoRankContent(directory));
    const { stat } = await import('node:fs/promises');
    for (const { path } of manifest.files) expect((await stat(join(out, path))).mode & 0o222).toBe(0);
    expect(dirname(out)).toBe(directory);
    expect(existsSync(join(out, '.alive'))).toBe(false);
    expect(await readFile(join(out, 'manifest.json'), 'utf8')).toContain('format_version');
  });
});
