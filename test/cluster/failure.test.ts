import { spawn } from 'node:child_process';
import { existsSync } from 'node:fs';
import { readdir, rm, writeFile } from 'node:fs/promises';
import { createServer } from 'node:net';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import { expect, it } from 'vitest';
import { TandemError } from '#tandem/common/errors.js';
import type { Cluster } from '#tandem/coordinator/cluster/index.js';
import { ControlClient } from '#tandem/shard-worker/transport.js';
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
  withCluster,
  withCopy,
  withDirectory,
} from './helpers.js';

const pidsOf = (cluster: Cluster): number[] => cluster.workers.map((worker) => worker.pid);

/** Starts an endless step and, once it runs, does something to rank 1; returns the error and how long it took, in ms. */
const endStep = async (cluster: Cluster, act: (pid: number) => void): Promise<{ error: TandemError; ms: number }> => {
  const failing = errorOf(cluster.network().step(iterations(LONG_STEP)));
  await delay(300);
  const start = performance.now();
  act(pidsOf(cluster)[1] ?? 0);
  const error = await failing;
  return { error, ms: performance.now() - start };
};

it('ends the step within 5 s when a worker is killed, names its rank, and leaves no process', async () => {
  const cluster = await launchFixture('slow');
  const pids = pidsOf(cluster);
  const told: TandemError[] = [];
  cluster.onFailure((error) => told.push(error));
  const { error, ms } = await endStep(cluster, (pid) => process.kill(pid, 'SIGKILL'));
  expect(error.code).toBe('WORKER_DIED');
  expect(error.message).toMatch(/rank 1 was killed by SIGKILL/);
  expect(ms).toBeLessThan(5000);
  expect(pids.some(isAlive)).toBe(false);
  expect(told).toEqual([error]);
});

it('ends the step within 5 s when a worker is stopped, names its rank, and leaves no process', async () => {
  const cluster = await launchFixture('slow');
  const pids = pidsOf(cluster);
  const { error, ms } = await endStep(cluster, (pid) => process.kill(pid, 'SIGSTOP'));
  expect(error.code).toBe('WORKER_UNRESPONSIVE');
  expect(error.message).toMatch(/rank 1/);
  expect(ms).toBeLessThan(5000);
  expect(pids.some(isAlive)).toBe(false);
});

it('says so when a step makes no progress for too long', async () => {
  const cluster = await launchFixture('slow', { timeouts: { stepMs: 500 } });
  const pids = pidsOf(cluster);
  const error = await errorOf(cluster.network().step(iterations(LONG_STEP)));
  expect(error.code).toBe('WORKER_STALLED');
  expect(error.message).toMatch(/rank [01] made no progress/);
  expect(pids.some(isAlive)).toBe(false);
});

it('does not take a busy worker for a lost one', async () => {
  await withCluster(
    'slow',
    async (cluster) => {
      const start = performance.now();
      await cluster.network().step(iterations(300_000));
      expect(performance.now() - start).toBeGreaterThan(1000);
    },
    { timeouts: { heartbeatMs: 500 } },
  );
});

it('does not take its own pause for the silence of its workers', async () => {
  await withCluster(
    'mlp-2',
    async (cluster) => {
      // As a text encoder or an image decoder does that runs in the coordinator itself.
      Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, 1500);
      await delay(100);
      await cluster.network().step(mlpInput());
    },
    { timeouts: { heartbeatMs: 300 } },
  );
});

it('fails between steps too, and a step after that is an error, not a hang', async () => {
  const cluster = await launchFixture('mlp-2');
  const failure = new Promise<TandemError>((resolve) => cluster.onFailure(resolve));
  process.kill(pidsOf(cluster)[0] ?? 0, 'SIGKILL');
  expect((await failure).code).toBe('WORKER_DIED');
  const error = await errorOf(cluster.network().step(mlpInput()));
  expect(error.code).toBe('CLUSTER_FAILED');
  expect(error.message).toMatch(/rank 0 was killed/);
  await cluster.close();
});

it('refuses wrong inputs without harm to the workers', async () => {
  await withCluster('mlp-2', async (cluster) => {
    const error = await errorOf(
      cluster.network().step({ z: { dtype: 'float32', shape: [1], data: new Uint8Array(4) } }),
    );
    expect(error.code).toBe('STEP_INPUTS');
    expect(error.problems).toEqual(['"x" (float32 [2, 8]) is missing', '"z" is not an input of the model']);
    const short = await errorOf(
      cluster.network().step({ x: { dtype: 'float32', shape: [2, 8], data: new Uint8Array(3) } }),
    );
    expect(short.message).toMatch(/"x" has 3 bytes, expected 64/);
    await cluster.network().step(mlpInput());
  });
});

it('ends a step that is under way when it is closed, and can be closed twice', async () => {
  const cluster = await launchFixture('slow');
  const pids = pidsOf(cluster);
  const failing = errorOf(cluster.network().step(iterations(LONG_STEP)));
  await delay(100);
  await Promise.all([cluster.close(), cluster.close()]);
  expect((await failing).code).toBe('CLUSTER_CLOSED');
  expect((await errorOf(cluster.network().step(iterations(1)))).code).toBe('CLUSTER_CLOSED');
  expect(pids.some(isAlive)).toBe(false);
});

it('says what a worker wrote when it fails to start', async () => {
  await withDirectory(async (directory) => {
    const workerEntry = join(directory, 'worker.mjs');
    await writeFile(workerEntry, 'console.error("cannot find the device"); process.exit(7);');
    const error = await errorOf(launchFixture('mlp-2', { workerEntry }));
    expect(error.code).toBe('WORKER_START');
    expect(error.message).toMatch(/rank [01] exited with code 7 .*cannot find the device/);
  });
});

it('gives up on a worker that never reports', async () => {
  await withDirectory(async (directory) => {
    const workerEntry = join(directory, 'worker.mjs');
    await writeFile(workerEntry, 'process.stdin.resume(); setInterval(() => {}, 1000);');
    const error = await errorOf(launchFixture('mlp-2', { workerEntry, timeouts: { startMs: 300 } }));
    expect(error.code).toBe('WORKER_START');
    expect(error.message).toMatch(/did not report within 300 ms/);
  });
});

it('names the damaged file and its rank', async () => {
  await withCopy('mlp-2', async (directory) => {
    await flipByte(join(directory, 'rank-1', 'weights.bin'));
    const error = await errorOf(launchDirectory(directory));
    expect(error.code).toBe('WORKER_FAILED');
    expect(error.message).toMatch(/rank 1 failed \(SHARD_FILES\).*"rank-1\/weights.bin" has changed/);
    expect(error.cause).toBeInstanceOf(TandemError);
  });
});

it('says which provider is missing and what would make it work', async () => {
  const devices = [0, 1].map(() => ({ provider: 'coreml' as const, deviceId: 0, threads: 1 }));
  const error = await errorOf(launchFixture('mlp-2', { devices }));
  expect(error.code).toBe('WORKER_FAILED');
  expect(error.message).toMatch(/PROVIDER_UNAVAILABLE.*CoreML exists on macOS only/);
});

it('asks for as many devices as the directory has ranks, and for a profile that exists', async () => {
  const devices = [{ provider: 'cpu' as const, deviceId: 0, threads: 1 }];
  expect((await errorOf(launchFixture('mlp-2', { devices }))).code).toBe('SHARD_WORLD_SIZE');
  expect((await errorOf(launchFixture('mlp-2', { profile: 'batch=9' }))).message).toMatch(
    /profiles "static", but not "batch=9"/,
  );
});

it("says so when a socket path is in use, be it the control socket or a worker's", async () => {
  await withDirectory(async (directory) => {
    const paths = ['control', 'rank-0', 'rank-1'].map((name) => join(directory, `${name}.sock`));
    for (const taken of [paths[0] ?? '', paths[2] ?? '']) {
      const owner = createServer().listen(taken);
      const [control = '', ...exchange] = paths.map((path) => `ipc://${path}`);
      const error = await errorOf(launchFixture('mlp-2', { endpoints: { control, exchange } }));
      expect(error.code).toBe(taken === paths[0] ? 'ENDPOINT_IN_USE' : 'WORKER_START');
      expect(error.message).toMatch(/already in use/);
      expect(existsSync(taken)).toBe(true);
      await new Promise((resolve) => owner.close(resolve));
      for (const path of paths) await rm(path, { force: true });
    }
  });
});

it('says so when a port is in use', async () => {
  const owner = createServer().listen(0, '127.0.0.1');
  await until(() => owner.listening);
  const address = owner.address();
  const port = typeof address === 'object' && address !== null ? address.port : 0;
  const endpoints = { control: `tcp://127.0.0.1:${port}`, exchange: ['tcp://127.0.0.1:*', 'tcp://127.0.0.1:*'] };
  const error = await errorOf(launchFixture('mlp-2', { endpoints }));
  expect(error.code).toBe('ENDPOINT_IN_USE');
  owner.close();
});

it('ignores a stranger on the control socket and says so, once, however much it sends', async () => {
  await withDirectory(async (directory) => {
    const endpoint = (name: string): string => `ipc://${join(directory, `${name}.sock`)}`;
    const notices: string[] = [];
    await withCluster(
      'mlp-2',
      async (cluster) => {
        const stranger = new ControlClient(endpoint('control'), '1');
        for (let sent = 0; sent < 500; sent++) await stranger.send(Buffer.from('not a message'));
        await until(() => notices.length > 0);
        await cluster.network().step(mlpInput());
        stranger.close();
      },
      {
        endpoints: { control: endpoint('control'), exchange: [endpoint('rank-0'), endpoint('rank-1')] },
        onNotice: (message) => notices.push(message),
      },
    );
    expect(notices).toEqual([expect.stringMatching(/13 bytes from a stranger .* 1 messages of strangers so far/)]);
  });
});

it('fails, and does not crash, when a worker sends what is no message', async () => {
  await withDirectory(async (directory) => {
    const workerEntry = join(directory, 'worker.mjs');
    const transport = fileURLToPath(new URL('../../dist/shard-worker/transport.js', import.meta.url));
    await writeFile(
      workerEntry,
      `import { ControlClient } from ${JSON.stringify(transport)};
       const control = new ControlClient(process.argv[process.argv.indexOf('--control') + 1], process.env.TANDEM_WORKER_ID);
       await control.send(Buffer.from([0xc1, 0xff, 0x00]));
       process.stdin.resume();`,
    );
    const error = await errorOf(launchFixture('mlp-2', { workerEntry }));
    expect(error.code).toBe('WORKER_FAILED');
    expect(error.message).toMatch(/rank [01] failed \(PROTOCOL_MESSAGE\)/);
  });
});

it('can be cancelled while it launches', async () => {
  const controller = new AbortController();
  const reason = new TandemError('CANCELLED', 'Cancelled.');
  const launching = errorOf(launchFixture('mlp-2', { signal: controller.signal }));
  await delay(50);
  controller.abort(reason);
  expect(await launching).toBe(reason);
});

it('leaves no process and no socket when the coordinator itself is killed', async () => {
  await withDirectory(async (directory) => {
    const program = fileURLToPath(new URL('./abandon.mjs', import.meta.url));
    const coordinator = spawn(process.execPath, [program, fixture('slow'), String(LONG_STEP)], {
      stdio: ['ignore', 'pipe', 'inherit'],
      env: { ...process.env, TMPDIR: directory },
    });
    try {
      const text = await new Promise<string>((resolve) => coordinator.stdout.setEncoding('utf8').once('data', resolve));
      const pids = JSON.parse(text) as number[];
      await delay(300);
      expect(pids.every(isAlive)).toBe(true);
      expect(await readdir(directory)).toHaveLength(1);
      coordinator.kill('SIGKILL');
      await until(() => !pids.some(isAlive));
      expect(await readdir(directory)).toEqual([]);
    } finally {
      coordinator.kill('SIGKILL');
    }
  });
});
