/** An hour of mixed load on `tandem launch` in a process of its own: `SOAK_MINUTES=60 npm run soak`. Writes what it saw to `SOAK_OUT`. */
import { mkdir, mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join, resolve } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { expect, it } from 'vitest';
import { CONFIG, isAlive, launchReady } from '../server/helpers.js';
import { growthOf, soakChart } from './growth.js';
import { MIX, prepare } from './mix.js';
import { type Sample, watchProcesses } from './process-samples.js';

const MINUTES = Number(process.env.SOAK_MINUTES ?? 60);
/** Between two deeds: most of the time the machine is to be idle, so that it is age that is tested and not load. */
const PAUSE_MS = Number(process.env.SOAK_PAUSE_MS ?? 700);
const OUT = resolve(process.env.SOAK_OUT ?? 'docs');
const MAX_GROWTH_MB = 5;
const OTHER_SIZE = 5;
const START_MS = 600_000;

const configIn = async (directory: string): Promise<string> => {
  const text = await readFile(CONFIG, 'utf8');
  const file = join(directory, 'cluster.yaml');
  const more = `shards: ${join(directory, 'shards')}\nserver: { port: 0, images: ${join(directory, 'images')} }\n`;
  await writeFile(file, `${text.replace('../models', resolve('models'))}\n${more}`);
  return file;
};

const write = async (samples: readonly Sample[], pids: ReadonlyMap<string, number>): Promise<void> => {
  await writeFile(join(OUT, 'soak.svg'), soakChart(samples, pids));
  if (process.env.SOAK_OUT !== undefined) await writeFile(join(OUT, 'soak.json'), JSON.stringify(samples));
};

/** One deed after the other until the time is over. @returns how often each was done, and what was not as expected */
const work = async (url: string, untilMs: number) => {
  const done = new Map<string, number>();
  const wrong: string[] = [];
  const deeds = Object.entries(MIX);
  for (let turn = 0; performance.now() < untilMs; turn++) {
    const [name, deed] = deeds[turn % deeds.length] ?? ['', async () => undefined];
    await deed(url, Math.floor(turn / deeds.length)).catch((error: unknown) => wrong.push(`${name}: ${String(error)}`));
    done.set(name, (done.get(name) ?? 0) + 1);
    await delay(PAUSE_MS);
  }
  return { done: Object.fromEntries(done), wrong };
};

it(`serves for ${MINUTES} minutes without growing`, async () => {
  const directory = await mkdtemp(join(tmpdir(), 'tandem-soak-'));
  await mkdir(OUT, { recursive: true });
  const launched = await launchReady(await configIn(directory), { XDG_CACHE_HOME: join(directory, 'cache') }, START_MS);
  const pids = new Map([
    ['server', launched.process.pid ?? 0],
    ...launched.pids.map((pid, rank) => [`rank ${rank}`, pid] as const),
  ]);
  const stop = new AbortController();
  const onSample = (samples: readonly Sample[]): void => {
    // Nobody need wait for the end to see where it goes.
    if (samples.length % 12 === 0) void write(samples, pids);
  };
  try {
    const end = performance.now() + MINUTES * 60_000;
    const watched = watchProcesses(launched.process.pid ?? 0, stop.signal, onSample);
    await prepare(launched.url);
    const { done, wrong } = await work(launched.url, end);
    stop.abort();
    const samples = await watched;
    await write(samples, pids);
    const growth = growthOf(samples, pids);
    console.table(done);
    console.table(growth);
    expect(wrong).toEqual([]);
    for (const { name, growthMB, earlyDescriptors, lateDescriptors } of growth) {
      expect(growthMB, `growth of ${name} in MB`).toBeLessThanOrEqual(MAX_GROWTH_MB);
      // Sockets of the size that is loaded beside the default one come and go with it.
      expect(Math.abs(lateDescriptors - earlyDescriptors), `descriptors of ${name}`).toBeLessThanOrEqual(OTHER_SIZE);
    }
  } finally {
    stop.abort();
    launched.process.kill('SIGINT');
    await launched.exited;
    await rm(directory, { recursive: true, force: true });
  }
  expect([...pids.values()].filter(isAlive)).toEqual([]);
});
