import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { existsSync } from 'node:fs';
import { chmod, readdir, readFile, rm, stat, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { setTimeout as delay } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import { afterEach, expect, it } from 'vitest';
import { runtimeDirectory, type WorkerInfo } from '#tandem/coordinator/cluster/index.js';
import { errorOf, fixture, isAlive, iterations, launchFixture, until, withCopy, withDirectory } from './helpers.js';

const PROGRAM = fileURLToPath(new URL('./resident.mjs', import.meta.url));
const KEEP_WARM_MS = 20_000;

interface Said {
  readonly launchMs: number;
  readonly workers: readonly WorkerInfo[];
  readonly warm: boolean;
  readonly notices: readonly string[];
  readonly digests: readonly string[];
  readonly error: string;
  readonly message: string;
}

/** A coordinator in a process of its own. */
interface Coordinator {
  readonly child: ChildProcess;
  /** What it said once it was ready, or why it is not. */
  readonly ready: Said;
  /** From the start of its process to that, in ms. */
  readonly readyMs: number;
  readonly pids: readonly number[];
  /** Runs a step of so many iterations and returns the ranks' digests. */
  readonly step: (count: number) => Promise<readonly string[]>;
}

interface Setting {
  readonly directory: string;
  readonly shardDirectory?: string;
  readonly keepWarmMs?: number;
  readonly heartbeatMs?: number;
}

const started: ChildProcess[] = [];
const workers = new Set<number>();

// Whatever a failed test has left.
afterEach(() => {
  for (const child of started.splice(0)) child.kill('SIGKILL');
  for (const pid of workers) if (isAlive(pid)) process.kill(pid, 'SIGKILL');
  workers.clear();
});

const startCoordinator = async (setting: Setting): Promise<Coordinator> => {
  const given = { shardDirectory: fixture('slow'), keepWarmMs: KEEP_WARM_MS, heartbeatMs: 3000, ...setting };
  const start = performance.now();
  const child = spawn(process.execPath, [PROGRAM, JSON.stringify(given)], { stdio: ['pipe', 'pipe', 'inherit'] });
  const lines = createInterface({ input: child.stdout })[Symbol.asyncIterator]();
  const next = async (): Promise<Said> => JSON.parse(String((await lines.next()).value ?? '{}'));
  started.push(child);
  const ready = await next();
  for (const { pid } of ready.workers ?? []) workers.add(pid);
  return {
    child,
    ready,
    readyMs: performance.now() - start,
    pids: ready.workers?.map((worker) => worker.pid) ?? [],
    step: async (count) => {
      child.stdin.write(`${count}\n`);
      return (await next()).digests;
    },
  };
};

const kill = async ({ child }: Coordinator): Promise<void> => {
  const gone = once(child, 'exit');
  child.kill('SIGKILL');
  await gone;
};

/** Ends a coordinator and its workers in order. */
const stop = async ({ child, pids }: Coordinator): Promise<void> => {
  const gone = once(child, 'exit');
  child.kill('SIGTERM');
  await gone;
  expect(pids.some(isAlive)).toBe(false);
};

it('is ready in under a second when the coordinator was killed: same workers, nothing loaded again', async () => {
  await withDirectory(async (directory) => {
    const first = await startCoordinator({ directory });
    expect([first.ready.warm, ...first.ready.workers.map((worker) => worker.adopted)]).toEqual([false, false, false]);
    const expected = await first.step(10);
    let last = first;
    for (const _ of [1, 2]) {
      await kill(last);
      const next = await startCoordinator({ directory });
      const times = [first.readyMs, first.ready.launchMs, next.readyMs, next.ready.launchMs].map(Math.round);
      console.log('from process start, of which launch: cold %d, %d ms; warm %d, %d ms', ...times);
      // Without the start of Node itself, which depends on what else the machine does.
      expect(next.ready.launchMs).toBeLessThan(1000);
      expect(next.pids).toEqual(first.pids);
      expect(next.ready.warm).toBe(true);
      // The time that the first and only load took.
      expect(next.ready.workers.map(({ load_ms, weight_bytes }) => [load_ms, weight_bytes])).toEqual(
        first.ready.workers.map(({ load_ms, weight_bytes }) => [load_ms, weight_bytes]),
      );
      expect(await next.step(10)).toEqual(expected);
      last = next;
    }
    await stop(last);
    expect(await readdir(directory).catch(() => [])).toEqual([]);
  });
});

it('takes over workers whose coordinator was killed in the middle of a step', async () => {
  await withDirectory(async (directory) => {
    const first = await startCoordinator({ directory });
    const expected = await first.step(10);
    void first.step(50_000);
    await delay(200);
    await kill(first);
    const second = await startCoordinator({ directory });
    expect(second.pids).toEqual(first.pids);
    expect(await second.step(10)).toEqual(expected);
    await stop(second);
  });
});

it('starts only the rank that is missing, or that is stopped, and says so', async () => {
  await withDirectory(async (directory) => {
    const setting = { directory, heartbeatMs: 700 };
    const first = await startCoordinator(setting);
    const expected = await first.step(10);
    await kill(first);
    process.kill(first.pids[0] ?? 0, 'SIGKILL');
    const second = await startCoordinator(setting);
    expect(second.ready.workers.map((worker) => worker.adopted)).toEqual([false, true]);
    expect(second.pids[1]).toBe(first.pids[1]);
    expect(await second.step(10)).toEqual(expected);
    await kill(second);
    process.kill(second.pids[1] ?? 0, 'SIGSTOP');
    const third = await startCoordinator(setting);
    expect(third.ready.workers.map((worker) => worker.adopted)).toEqual([true, false]);
    expect(third.ready.notices[0]).toMatch(/rank 1 has not answered.*Starting a new one/);
    expect(isAlive(second.pids[1] ?? 0)).toBe(false);
    expect(await third.step(10)).toEqual(expected);
    await stop(third);
  });
});

it('does not take over workers with other shards: it ends them', async () => {
  await withDirectory((directory) =>
    withCopy('slow', async (shardDirectory) => {
      const first = await startCoordinator({ directory, shardDirectory });
      await kill(first);
      const path = join(shardDirectory, 'manifest.json');
      const manifest = JSON.parse(await readFile(path, 'utf8'));
      await writeFile(path, JSON.stringify({ ...manifest, tool_version: '9.9.9' }));
      const second = await startCoordinator({ directory, shardDirectory });
      expect(second.ready.notices[0]).toMatch(/Ending 2 workers .* other shards/);
      expect(second.ready.workers.map((worker) => worker.adopted)).toEqual([false, false]);
      expect(first.pids.some(isAlive)).toBe(false);
      expect(await readdir(directory)).toHaveLength(1);
      await stop(second);
    }),
  );
});

it('refuses a second coordinator at the same time, and leaves the first one and its workers alone', async () => {
  await withDirectory(async (directory) => {
    const first = await startCoordinator({ directory });
    const second = await startCoordinator({ directory });
    expect(second.ready.error).toBe('CLUSTER_IN_USE');
    expect(second.ready.message).toMatch(new RegExp(`process ${first.child.pid} commands them`));
    expect(await first.step(10)).toHaveLength(2);
    await stop(first);
  });
});

it('refuses a second coordinator also where a cleaner has removed the lock file', async () => {
  await withDirectory(async (directory) => {
    const first = await startCoordinator({ directory });
    const [key = ''] = await readdir(directory);
    await rm(join(directory, key, 'coordinator.lock'));
    const second = await startCoordinator({ directory });
    expect(second.ready.error).toBe('CLUSTER_IN_USE');
    expect(second.ready.message).toMatch(new RegExp(`process ${first.child.pid} commands them`));
    expect(first.pids.every(isAlive)).toBe(true);
    expect(await first.step(10)).toHaveLength(2);
    await stop(first);
  });
});

it('ends the workers when no coordinator comes in time, and leaves nothing behind', async () => {
  await withDirectory(async (parent) => {
    const directory = join(parent, 'cluster');
    const first = await startCoordinator({ directory, keepWarmMs: 1500 });
    await delay(2000);
    expect(first.pids.every(isAlive)).toBe(true);
    await kill(first);
    await delay(700);
    expect(first.pids.every(isAlive)).toBe(true);
    await until(() => !first.pids.some(isAlive) && !existsSync(directory), 5000);
  });
});

it('leaves nothing behind when the coordinator is killed while its workers are still loading', async () => {
  await withDirectory(async (directory) => {
    const given = { shardDirectory: fixture('slow'), directory, keepWarmMs: KEEP_WARM_MS, heartbeatMs: 3000 };
    const child = spawn(process.execPath, [PROGRAM, JSON.stringify(given)], { stdio: 'ignore' });
    const registration = async (): Promise<string> => {
      const [key = ''] = await readdir(directory);
      return readFile(join(directory, key, 'workers.json'), 'utf8').catch(() => '');
    };
    let text = '';
    while (text === '') text = await registration();
    child.kill('SIGKILL');
    const pids = (JSON.parse(text).workers as { process: { pid: number } }[]).map((worker) => worker.process.pid);
    expect(pids).toHaveLength(2);
    const next = await startCoordinator({ directory });
    expect(pids.filter((pid) => !next.pids.includes(pid)).some(isAlive)).toBe(false);
    expect(await next.step(10)).toHaveLength(2);
    await stop(next);
  });
});

it('keeps the directory, the token and the registration to its user', async () => {
  await withDirectory(async (directory) => {
    const cluster = await launchFixture('mlp-2', { detached: { directory, keepWarmMs: KEEP_WARM_MS } });
    const [key = ''] = await readdir(directory);
    const modes = await Promise.all(
      [key, `${key}/token`, `${key}/workers.json`, `${key}/coordinator.lock`].map(
        async (name) => (await stat(join(directory, name))).mode & 0o777,
      ),
    );
    expect(modes).toEqual([0o700, 0o600, 0o600, 0o600]);
    await cluster.close();
    expect(existsSync(directory)).toBe(false);
  });
});

it('refuses a directory that others can enter, and tcp', async () => {
  await withDirectory(async (directory) => {
    const detached = { directory, keepWarmMs: KEEP_WARM_MS };
    await chmod(directory, 0o755);
    const open = await errorOf(launchFixture('mlp-2', { detached }));
    expect([open.code, open.message]).toEqual(['RUNTIME_DIRECTORY', expect.stringMatching(/its mode is 0755/)]);
    expect((await errorOf(launchFixture('mlp-2', { detached, transport: 'tcp' }))).code).toBe('DETACHED_TRANSPORT');
  });
});

it('recovers detached workers like any others, and the next coordinator finds the new ones', async () => {
  await withDirectory(async (directory) => {
    const detached = { directory, keepWarmMs: KEEP_WARM_MS };
    const restart = { maxAttempts: 2, backoffMs: 10, capMs: 10 };
    const cluster = await launchFixture('slow', { detached, restart });
    const [first = 0, second = 0] = cluster.workers.map((worker) => worker.pid);
    const stepping = cluster.network().step(iterations(50_000));
    await delay(200);
    process.kill(second, 'SIGKILL');
    await stepping;
    const [key = ''] = await readdir(directory);
    const registered = JSON.parse(await readFile(join(directory, key, 'workers.json'), 'utf8')).workers;
    expect(registered.map((worker: { process: { pid: number } }) => worker.process.pid)).toEqual(
      cluster.workers.map((worker) => worker.pid),
    );
    expect(cluster.workers[0]?.pid).toBe(first);
    await cluster.close();
  });
});

it('finds the same private directory for a config from wherever it is named', () => {
  expect(runtimeDirectory('configs/dual-cpu.yaml')).toBe(
    runtimeDirectory(join(process.cwd(), 'configs/dual-cpu.yaml')),
  );
  expect(runtimeDirectory('a.yaml')).not.toBe(runtimeDirectory('b.yaml'));
});
