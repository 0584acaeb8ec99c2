/**
 * 200 requests from 20 clients, a quarter of them cancelled, against `tandem launch` in a process of its own
 * (`npm run test:load`). Prints what it measured and writes coordinator/server/docs/load.svg.
 */
import { writeFile } from 'node:fs/promises';
import { setTimeout as delay } from 'node:timers/promises';
import { decode } from 'fast-png';
import { expect, it } from 'vitest';
import { type ImageAnswer, isAlive, json, post, withLaunched } from './helpers.js';
import { loadChart, type Sample } from './load-chart.js';

const CLIENTS = 20;
const REQUESTS_PER_CLIENT = 10;
const MAX_QUEUE = 12;
const STEPS = 4;
/** Large enough for a step's tensors to be most of a worker's memory: what is not given back shows. */
const DEFAULTS = '{ width: 256, height: 256 }';
const REQUEST_LIMIT_MS = 600_000;

type Outcome = 'completed' | 'cancelled';

interface Ended {
  readonly outcome: Outcome;
  readonly ms: number;
  /** How often it was told to come back later. */
  readonly refused: number;
}

const readMetrics = async (url: string): Promise<ReadonlyMap<string, number>> => {
  const text = await (await fetch(`${url}/metrics`)).text();
  const lines = text.split('\n').filter((line) => line !== '' && !line.startsWith('#'));
  return new Map(
    lines.map((line) => [line.slice(0, line.lastIndexOf(' ')), Number(line.slice(line.lastIndexOf(' ')))]),
  );
};

/** One request to its end, whatever it takes: a refused one is sent again when it was told to. */
const ask = async (url: string, client: number, number: number, cancel: boolean): Promise<Ended> => {
  const start = performance.now();
  const body = {
    prompt: `picture ${number} of ${client}`,
    seed: number,
    num_inference_steps: STEPS,
    response_format: 'b64_json',
  };
  let refused = 0;
  for (;;) {
    const limit = AbortSignal.timeout(REQUEST_LIMIT_MS);
    const leaving = cancel ? AbortSignal.timeout(10 + ((client * 37 + number * 91) % 300)) : limit;
    const response = await post(url, body, { signal: leaving }).catch((error: unknown) => {
      if (cancel && leaving.aborted) return undefined;
      throw error;
    });
    if (response === undefined) return { outcome: 'cancelled', ms: performance.now() - start, refused };
    if (response.status === 429) {
      refused += 1;
      await response.arrayBuffer();
      await delay(Number(response.headers.get('retry-after')) * 1000);
      continue;
    }
    expect(response.status).toBe(200);
    const [picture] = (await json<ImageAnswer>(response)).data;
    expect(decode(Buffer.from(picture?.b64_json ?? '', 'base64')).width).toBeGreaterThan(0);
    return { outcome: 'completed', ms: performance.now() - start, refused };
  }
};

const client = async (url: string, index: number): Promise<readonly Ended[]> => {
  const ended: Ended[] = [];
  for (let number = 0; number < REQUESTS_PER_CLIENT; number++)
    ended.push(await ask(url, index, number, (index + number) % 4 === 0));
  return ended;
};

const MIB = 2 ** 20;

/** Reads the metrics every second until told to stop. */
const sampleWhile = async (url: string, work: Promise<unknown>): Promise<readonly Sample[]> => {
  const samples: Sample[] = [];
  const start = performance.now();
  let over = false;
  void work
    .catch(() => undefined)
    .finally(() => {
      over = true;
    });
  let before = { sum: 0, count: 0 };
  while (!over) {
    const metrics = await readMetrics(url);
    const read = (name: string): number => metrics.get(name) ?? 0;
    const steps = { sum: read('tandem_step_time_seconds_sum'), count: read('tandem_step_time_seconds_count') };
    const fresh = steps.count - before.count;
    samples.push({
      seconds: (performance.now() - start) / 1000,
      running: read('tandem_requests_running'),
      waiting: read('tandem_requests_waiting'),
      refused: read('tandem_requests_total{outcome="rejected"}'),
      completed: read('tandem_requests_total{outcome="completed"}'),
      stepMs: fresh > 0 ? ((steps.sum - before.sum) / fresh) * 1000 : (samples.at(-1)?.stepMs ?? 0),
      serverMiB: read('process_resident_memory_bytes') / MIB,
      ranksMiB: (read('tandem_rank_memory_bytes{rank="0"}') + read('tandem_rank_memory_bytes{rank="1"}')) / MIB,
    });
    before = steps;
    await delay(1000);
  }
  return samples;
};

const mean = (values: readonly number[]): number => values.reduce((sum, value) => sum + value, 0) / values.length;

/** Mean of the last quarter over that of the second: the first one is warming up. */
const growth = (samples: readonly Sample[], read: (sample: Sample) => number): number => {
  const quarter = Math.floor(samples.length / 4);
  return mean(samples.slice(-quarter).map(read)) / mean(samples.slice(quarter, 2 * quarter).map(read));
};

const percentile = (values: readonly number[], share: number): number =>
  values.toSorted((a, b) => a - b)[Math.min(values.length - 1, Math.floor(values.length * share))] ?? 0;

it('serves 200 requests of 20 clients, a quarter cancelled: none hangs, none is lost, memory stays flat', () =>
  withLaunched(
    `{ port: 0, max_queue: ${MAX_QUEUE} }`,
    async (launched) => {
      const start = performance.now();
      const work = Promise.all(Array.from({ length: CLIENTS }, (_, index) => client(launched.url, index)));
      const samples = await sampleWhile(launched.url, work);
      const ended = (await work).flat();
      const seconds = (performance.now() - start) / 1000;
      const metrics = await readMetrics(launched.url);
      const counted = (outcome: string): number => metrics.get(`tandem_requests_total{outcome="${outcome}"}`) ?? 0;
      const completed = ended.filter(({ outcome }) => outcome === 'completed');
      const latencies = completed.map(({ ms }) => ms / 1000);
      const report = {
        requests: ended.length,
        completed: completed.length,
        cancelled: ended.length - completed.length,
        refused_429: counted('rejected'),
        seconds: Number(seconds.toFixed(1)),
        pictures_per_second: Number((completed.length / seconds).toFixed(2)),
        latency_s: { p50: percentile(latencies, 0.5).toFixed(2), p95: percentile(latencies, 0.95).toFixed(2) },
        memory_growth: {
          server: growth(samples, ({ serverMiB }) => serverMiB).toFixed(3),
          ranks: growth(samples, ({ ranksMiB }) => ranksMiB).toFixed(3),
        },
        memory_mib: {
          server: Math.round(samples.at(-1)?.serverMiB ?? 0),
          ranks: Math.round(samples.at(-1)?.ranksMiB ?? 0),
        },
      };
      console.log(JSON.stringify(report, null, 2));
      await writeFile('coordinator/server/docs/load.svg', loadChart(samples));

      expect(ended).toHaveLength(CLIENTS * REQUESTS_PER_CLIENT);
      // A client may leave in the moment in which its picture is sent.
      expect(counted('completed')).toBeGreaterThanOrEqual(completed.length);
      expect(counted('completed') + counted('cancelled')).toBeLessThanOrEqual(ended.length);
      expect(counted('failed')).toBe(0);
      // More clients than places: some were refused, and all of those came through in the end.
      expect(counted('rejected')).toBeGreaterThan(0);
      expect(metrics.get('tandem_requests_running')).toBe(0);
      expect(metrics.get('tandem_requests_waiting')).toBe(0);
      expect(growth(samples, ({ serverMiB }) => serverMiB)).toBeLessThan(1.15);
      expect(growth(samples, ({ ranksMiB }) => ranksMiB)).toBeLessThan(1.15);
      launched.process.kill('SIGTERM');
      expect((await launched.exited).code).toBe(143);
      expect(launched.pids.filter(isAlive)).toEqual([]);
    },
    { defaults: DEFAULTS },
  ));
