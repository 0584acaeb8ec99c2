/** Workers whose place somebody has taken away: they are in nobody's way, and they end. */
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { readdir, readFile, rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { describe, expect, it } from 'vitest';
import { WORKER_ENTRY } from '#tandem/coordinator/cluster/index.js';
import { fixture, isAlive, iterations, launchFixture, until, withDirectory } from './helpers.js';

const PROGRAM = fileURLToPath(new URL('./resident.mjs', import.meta.url));
const KEEP_WARM_MS = 20_000;
/** A busy machine takes this long to start a process. */
const LATE_MS = 1500;
const WITHIN_MS = 20_000;

/** A worker that is slow to start. */
const lateWorker = async (directory: string): Promise<string> => {
  const entry = join(directory, 'late.mjs');
  await writeFile(
    entry,
    `await new Promise((resolve) => setTimeout(resolve, ${LATE_MS}));
     await import(${JSON.stringify(WORKER_ENTRY)});`,
  );
  return entry;
};

const registered = async (run: string): Promise<readonly number[]> => {
  const [key = ''] = await readdir(run).catch(() => []);
  const text = await readFile(join(run, key, 'workers.json'), 'utf8').catch(() => '{"workers":[]}');
  const { workers } = JSON.parse(text) as { workers: { process: { pid: number } }[] };
  return workers.map(({ process: { pid } }) => pid);
};

const untilRegistered = async (run: string): Promise<readonly number[]> => {
  const end = performance.now() + WITHIN_MS;
  for (let pids = await registered(run); performance.now() < end; pids = await registered(run))
    if (pids.length > 0) return pids;
  throw new Error('No workers were registered.');
};

const kill = async (child: ChildProcess): Promise<void> => {
  const gone = once(child, 'exit');
  child.kill('SIGKILL');
  await gone;
};

describe.concurrent('workers whose place was taken away', () => {
  it('are not in the way of those of the next coordinator, though they come to listen before them, and end', async () => {
    await withDirectory(async (directory) => {
      const [run, workerEntry] = [join(directory, 'run'), await lateWorker(directory)];
      const setting = { shardDirectory: fixture('slow'), directory: run, keepWarmMs: KEEP_WARM_MS, workerEntry };
      const first = spawn(process.execPath, [PROGRAM, JSON.stringify({ ...setting, heartbeatMs: 3000 })]);
      const strays = await untilRegistered(run);
      await rm(run, { recursive: true });
      await kill(first);
      const cluster = await launchFixture('slow', {
        workerEntry,
        detached: { directory: run, keepWarmMs: KEEP_WARM_MS },
      });
      const { ranks } = await cluster.step([iterations(10)]);
      expect(ranks.length).toBe(2);
      await until(() => !strays.some(isAlive), WITHIN_MS);
      await cluster.close();
    });
  });

  it('end within seconds, and leave what another coordinator has made there', async () => {
    await withDirectory(async (directory) => {
      const token = join(directory, 'token');
      const exchange = join(directory, '0-a.sock');
      await writeFile(token, 'ours', { mode: 0o600 });
      const place = ['--control', `ipc://${join(directory, 'control.sock')}`, '--exchange', `ipc://${exchange}`];
      const detached = ['--rank', '0', ...place, '--detached', directory, '--keep-warm-ms', '60000'];
      const child = spawn(process.execPath, [WORKER_ENTRY, ...detached], {
        stdio: 'ignore',
        env: { ...process.env, TANDEM_WORKER_TOKEN: 'ours' },
      });
      const files = async (): Promise<string> => (await readdir(directory)).join();
      const end = performance.now() + WITHIN_MS;
      while (!(await files()).includes('0-a.sock')) expect(performance.now()).toBeLessThan(end);
      await writeFile(token, 'theirs', { mode: 0o600 });
      await until(() => child.signalCode !== null || child.exitCode !== null, WITHIN_MS);
      expect(await files()).toBe('token');
    });
  });

  it('are those of no removed directory, where ranks are only lost before they listen', async () => {
    await withDirectory(async (directory) => {
      const notices: string[] = [];
      const cluster = await launchFixture('slow', {
        workerEntry: await lateWorker(directory),
        detached: { directory: join(directory, 'run'), keepWarmMs: KEEP_WARM_MS },
        restart: { maxAttempts: 5, backoffMs: 20, capMs: 200 },
        onNotice: (message) => notices.push(message),
      });
      const { ranks } = await cluster.step([iterations(10)]);
      const before = cluster.workers.map(({ pid }) => pid);
      for (const pid of before) process.kill(pid, 'SIGKILL');
      await until(() => cluster.workers.every(({ pid }) => !before.includes(pid)), WITHIN_MS);
      process.kill(cluster.workers[0]?.pid ?? 0, 'SIGKILL');
      const again = await cluster.step([iterations(10)]);
      expect(again.ranks.map((rank) => rank.outputs_sha256)).toEqual(ranks.map((rank) => rank.outputs_sha256));
      expect(notices.filter((notice) => !/Starting it again/.test(notice))).toEqual([]);
      expect(notices.length).toBe(3);
      await cluster.close();
    });
  });
});
