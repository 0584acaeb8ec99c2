import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { expect, it } from 'vitest';
import type { Cluster, RestartPolicy } from '#tandem/coordinator/cluster/index.js';
import {
  errorOf,
  floats,
  isAlive,
  iterations,
  LONG_STEP,
  launchFixture,
  mlpInput,
  toFloats,
  until,
  withCluster,
  withDirectory,
} from './helpers.js';

const restart: RestartPolicy = { maxAttempts: 3, backoffMs: 20, capMs: 200 };
/** Long enough to be struck in the middle. */
const SECONDS = 100_000;

const pidsOf = (cluster: Cluster): number[] => cluster.workers.map((worker) => worker.pid);
const pidOf = (cluster: Cluster, rank: number): number => pidsOf(cluster)[rank] ?? 0;

/** The digests of a step that is struck after `afterMs`. */
const struckStep = async (cluster: Cluster, strike: () => void, afterMs = 200): Promise<(string | undefined)[]> => {
  const stepping = cluster.step([iterations(SECONDS)]);
  await delay(afterMs);
  strike();
  return (await stepping).ranks.map((rank) => rank.outputs_sha256);
};

const undisturbed = async (): Promise<(string | undefined)[]> =>
  withCluster('slow', async (cluster) =>
    (await cluster.step([iterations(SECONDS)])).ranks.map((rank) => rank.outputs_sha256),
  );

it('repeats the step that lost a worker, with the same result, and reloads only the lost rank', async () => {
  const expected = await undisturbed();
  const notices: string[] = [];
  await withCluster(
    'slow',
    async (cluster) => {
      const before = pidsOf(cluster);
      const states: string[] = [];
      cluster.onStateChange((state, error) => states.push(`${state} ${error?.code ?? ''}`.trim()));
      expect(await struckStep(cluster, () => process.kill(before[1] ?? 0, 'SIGKILL'))).toEqual(expected);
      expect(states).toEqual(['recovering WORKER_DIED', 'ready']);
      expect(pidOf(cluster, 0)).toBe(before[0]);
      expect(pidOf(cluster, 1)).not.toBe(before[1]);
      expect(cluster.restarts).toBe(1);
      expect(cluster.workers.map((worker) => [worker.restarts, worker.state])).toEqual([
        [0, 'ready'],
        [1, 'ready'],
      ]);
      expect(isAlive(before[1] ?? 0)).toBe(false);
      expect(await struckStep(cluster, () => process.kill(pidOf(cluster, 0), 'SIGKILL'))).toEqual(expected);
      expect(cluster.restarts).toBe(2);
    },
    { restart, onNotice: (message) => notices.push(message) },
  );
  expect(notices[0]).toMatch(/rank 1 was killed by SIGKILL.*Starting it again \(1 of 3\)/);
  expect(notices.filter((notice) => /stranger/.test(notice))).toEqual([]);
});

it('replaces a worker that is stopped', async () => {
  const expected = await undisturbed();
  await withCluster(
    'slow',
    async (cluster) => {
      const stopped = pidOf(cluster, 0);
      expect(await struckStep(cluster, () => process.kill(stopped, 'SIGSTOP'))).toEqual(expected);
      expect(isAlive(stopped)).toBe(false);
      expect(cluster.restarts).toBe(1);
    },
    { restart, timeouts: { heartbeatMs: 600 } },
  );
});

it('survives the loss of all workers at once, over shared memory, unix sockets and tcp', async () => {
  const expected = await undisturbed();
  for (const transport of ['shared-memory', 'ipc', 'tcp'] as const) {
    await withCluster(
      'slow',
      async (cluster) => {
        const strike = (): void => {
          for (const pid of pidsOf(cluster)) process.kill(pid, 'SIGKILL');
        };
        expect(await struckStep(cluster, strike)).toEqual(expected);
        expect(cluster.restarts).toBe(2);
      },
      { restart, transport },
    );
  }
});

it.each(['shared-memory', 'ipc'] as const)(
  'drops what is left of an abandoned exchange, in the middle of 20 MB that go both ways (%s)',
  async (transport) => {
    await withCluster(
      'large',
      async (cluster) => {
        for (const [index, rank] of [1, 0, 1].entries()) {
          const striking = delay(20 + 15 * index).then(() => process.kill(pidOf(cluster, rank), 'SIGKILL'));
          for (const x of [1, 2.5, -3]) {
            // Every element is x of rank 0 plus 2x of rank 1.
            expect([...toFloats((await cluster.network().step({ x: floats([x], [1]) })).y)]).toEqual([3 * x, 3 * x]);
          }
          await striking;
          await until(() => cluster.restarts === index + 1);
        }
      },
      { restart, transport },
    );
  },
);

it.each(['shared-memory', 'ipc'] as const)(
  'frees a worker that waits for a stopped peer, and keeps what it has loaded (%s)',
  async (transport) => {
    await withCluster(
      'mlp-3',
      async (cluster) => {
        const expected = (await cluster.step([mlpInput()])).ranks.map((rank) => rank.outputs_sha256);
        const before = pidsOf(cluster);
        process.kill(before[1] ?? 0, 'SIGSTOP');
        const { ranks } = await cluster.step([mlpInput()]);
        expect(ranks.map((rank) => rank.outputs_sha256)).toEqual(expected);
        expect(pidsOf(cluster).map((pid, rank) => pid === before[rank])).toEqual([true, false, true]);
      },
      { restart, transport, timeouts: { heartbeatMs: 600 } },
    );
  },
);

it('brings back a worker that is lost between steps; a step that comes meanwhile waits', async () => {
  await withCluster(
    'mlp-2',
    async (cluster) => {
      const expected = (await cluster.step([mlpInput()])).ranks.map((rank) => rank.outputs_sha256);
      process.kill(pidOf(cluster, 0), 'SIGKILL');
      await until(() => cluster.state === 'recovering');
      const { ranks } = await cluster.step([mlpInput()]);
      expect(ranks.map((rank) => rank.outputs_sha256)).toEqual(expected);
      expect(cluster.state).toBe('ready');
    },
    { restart },
  );
});

it('gives up when a worker is lost again and again, says so, and leaves no process', async () => {
  const cluster = await launchFixture('slow', { restart: { ...restart, maxAttempts: 2 } });
  const told: string[] = [];
  const seen = new Set<number>();
  cluster.onFailure((error) => told.push(error.code));
  const strike = (): void => {
    for (const pid of pidsOf(cluster)) seen.add(pid);
    process.kill(pidOf(cluster, 1), 'SIGKILL');
  };
  cluster.onStateChange((state) => void (state === 'ready' && setTimeout(strike, 100)));
  // Not an endless step: the other worker's segment must end before it can be given a new peer.
  const failing = errorOf(cluster.network().step(iterations(SECONDS)));
  setTimeout(strike, 100);
  const error = await failing;
  expect(error.code).toBe('CLUSTER_RESTARTS');
  expect(error.message).toMatch(/rank 1 was lost 3 times .* 2 restarts are allowed.*killed by SIGKILL/);
  expect([cluster.state, cluster.restarts, told]).toEqual(['failed', 2, ['CLUSTER_RESTARTS']]);
  expect([seen.size, [...seen].some(isAlive)]).toEqual([4, false]);
  expect((await errorOf(cluster.network().step(iterations(1)))).code).toBe('CLUSTER_FAILED');
});

it('can be closed while it recovers, and leaves no process', async () => {
  const cluster = await launchFixture('slow', { restart: { ...restart, backoffMs: 200 } });
  const pids = pidsOf(cluster);
  const failing = errorOf(cluster.network().step(iterations(LONG_STEP)));
  await delay(200);
  process.kill(pids[1] ?? 0, 'SIGKILL');
  await until(() => cluster.state === 'recovering');
  await cluster.close();
  expect((await failing).code).toBe('CLUSTER_CLOSED');
  expect([...pids, ...pidsOf(cluster)].some(isAlive)).toBe(false);
  expect(cluster.state).toBe('closed');
});

it('does not restart what cannot even be launched', async () => {
  await withDirectory(async (directory) => {
    const workerEntry = join(directory, 'worker.mjs');
    await writeFile(workerEntry, 'console.error("no such device"); process.exit(7);');
    const error = await errorOf(launchFixture('mlp-2', { workerEntry, restart }));
    expect(error.code).toBe('WORKER_START');
  });
});
