/**
 * A server that is killed and started again: from the start of the new `tandem launch` to its first positive answer at /ready,
 * with the shipped model on the workers that the killed one left: `npm run measure -- warm-start`.
 */
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdir, rm, writeFile } from 'node:fs/promises';
import { join, resolve } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { expect, it } from 'vitest';
import { freePort, type Health, json } from '../server/helpers.js';
import { SCRATCH } from './scratch.js';

const KILLS = 10;
const LOOK_MS = 5;
const LIMIT_MS = 60_000;

interface Running {
  readonly child: ChildProcess;
  readonly url: string;
  /** ms */
  readonly readyMs: number;
}

const isReady = (url: string): Promise<boolean> =>
  fetch(`${url}/ready`).then(
    ({ status }) => status === 200,
    () => false,
  );

const launch = async (file: string, runtime: string, port: number): Promise<Running> => {
  const url = `http://127.0.0.1:${port}`;
  const start = performance.now();
  const child = spawn(process.execPath, [resolve('bin/tandem.js'), 'launch', file, '--port', String(port)], {
    stdio: 'ignore',
    env: { ...process.env, XDG_RUNTIME_DIR: runtime },
  });
  while (!(await isReady(url))) {
    if (child.exitCode !== null || performance.now() - start > LIMIT_MS) throw new Error('launch is not ready.');
    await delay(LOOK_MS);
  }
  return { child, url, readyMs: performance.now() - start };
};

const end = async ({ child }: Running, signal: NodeJS.Signals): Promise<void> => {
  const gone = once(child, 'exit');
  child.kill(signal);
  await gone;
};

const pidsOf = async ({ url }: Running): Promise<readonly number[]> =>
  (await json<Health>(await fetch(`${url}/health`))).ranks.map(({ pid }) => pid);

it('prints how long a killed server takes to be ready again', async () => {
  const directory = join(SCRATCH, 'warm-start');
  const runtime = join(directory, 'run');
  await mkdir(runtime, { recursive: true, mode: 0o700 });
  const file = join(directory, 'cluster.yaml');
  const devices = '[{ provider: cpu, threads: 1 }, { provider: cpu, threads: 1 }]';
  await writeFile(file, `model: ${resolve('models/emoji-sd')}\nshards: ../shards\ndevices: ${devices}\n`);
  const port = await freePort();
  let running = await launch(file, runtime, port);
  const first = { pids: await pidsOf(running), readyMs: running.readyMs };
  const times: number[] = [];
  try {
    for (let kill = 0; kill < KILLS; kill++) {
      await end(running, 'SIGKILL');
      running = await launch(file, runtime, port);
      times.push(running.readyMs);
      expect(await pidsOf(running)).toEqual(first.pids);
    }
  } finally {
    await end(running, 'SIGTERM');
    await rm(directory, { recursive: true, force: true });
  }
  const sorted = times.toSorted((a, b) => a - b).map(Math.round);
  const median = sorted[KILLS / 2];
  console.table([
    { 'first start, ms': Math.round(first.readyMs), kills: KILLS, 'median, ms': median, 'worst, ms': sorted.at(-1) },
  ]);
});
