/**
 * What an exchange costs between two real workers of one host, by transport and size: `npm run measure -- exchange`.
 *
 * The workers run a chain of segments that add up what both have sent. "exchange" is from the moment at which the later of the two has
 * ended a segment until both have begun the next one, by the machine's clock; "wait" is what one worker sees, from its segment's end
 * to its next one's begin, and counts the other's lateness too. "best step" is the lowest of the steps' medians of "exchange": what is
 * left where other processes take turns on the cores. One memcpy of the same bytes is printed beside them.
 */
import { rm } from 'node:fs/promises';
import { join } from 'node:path';
import { it } from 'vitest';
import { launchCluster, type RankStep } from '#tandem/coordinator/cluster/index.js';
import type { Transport } from '#tandem/coordinator/cluster/transport.js';
import { writeProbe } from '#tandem/partition/calibrate/probe.js';
import { withDirectory } from '../support/directory.js';

const STEPS = 25;
const SHAPES = [
  { name: '1 KB', elements: 256, exchanges: 50 },
  { name: '64 KB', elements: 16 * 1024, exchanges: 50 },
  { name: '5 MB', elements: 5 * 256 * 1024, exchanges: 10 },
];
const TRANSPORTS: readonly Transport[] = ['shared-memory', 'ipc', 'tcp'];

const quantile = (values: readonly number[], q: number): number => {
  const sorted = values.toSorted((a, b) => a - b);
  return sorted[Math.min(sorted.length - 1, Math.floor(q * sorted.length))] ?? Number.NaN;
};

const times = (values: readonly number[]): string =>
  `${(quantile(values, 0.5) / 1000).toFixed(3)} (${(quantile(values, 0.1) / 1000).toFixed(3)} to ${(quantile(values, 0.9) / 1000).toFixed(3)})`;

interface Span {
  readonly begin: number;
  readonly end: number;
}

const spansOf = ({ trace = [] }: RankStep): readonly Span[] =>
  trace
    .filter(({ activity }) => activity === 'segment')
    .map(({ start, duration }) => ({ begin: start, end: start + duration }));

/** µs of each exchange of a step. */
const exchangesOf = (ranks: readonly RankStep[]): { readonly exchange: number[]; readonly wait: number[] } => {
  const spans = ranks.map(spansOf);
  const count = Math.min(...spans.map(({ length }) => length)) - 1;
  const at = (index: number): readonly Span[] => spans.flatMap((one) => one[index] ?? []);
  const indexes = Array.from({ length: count }, (_, index) => index);
  return {
    exchange: indexes.map(
      (index) => Math.max(...at(index + 1).map(({ begin }) => begin)) - Math.max(...at(index).map(({ end }) => end)),
    ),
    wait: indexes.flatMap((index) => at(index + 1).map(({ begin }, rank) => begin - (at(index)[rank]?.end ?? begin))),
  };
};

const memcpy = (bytes: number): number[] => {
  const [from, to] = [new Uint8Array(bytes).fill(1), new Uint8Array(bytes).fill(2)];
  return Array.from({ length: 50 }, () => {
    const start = performance.now();
    to.set(from);
    return (performance.now() - start) * 1000;
  });
};

const measure = async (shape: (typeof SHAPES)[number], transport: Transport, directory: string) => {
  const shardDirectory = join(directory, `${shape.elements}`);
  const manifest = await writeProbe(shardDirectory, shape, 'measure').catch(async () => undefined);
  const device = { provider: 'cpu', deviceId: 0, threads: 1 } as const;
  if (!manifest) throw new Error('The probe could not be written.');
  const cluster = await launchCluster({
    shardDirectory,
    manifest,
    profile: 'static',
    devices: [device, device],
    transport,
  });
  const found = { exchange: [] as number[], wait: [] as number[], segment: [] as number[], medians: [] as number[] };
  try {
    const x = { dtype: 'float32' as const, shape: [shape.elements], data: new Uint8Array(4 * shape.elements) };
    for (let step = 0; step < STEPS; step++) {
      const { ranks } = await cluster.step([{ x }], { trace: true });
      if (step < 5) continue;
      const { exchange, wait } = exchangesOf(ranks);
      found.exchange.push(...exchange);
      found.medians.push(quantile(exchange, 0.5));
      found.wait.push(...wait);
      found.segment.push(...ranks.flatMap((rank) => spansOf(rank).map(({ begin, end }) => end - begin)));
    }
  } finally {
    await cluster.close();
    await rm(shardDirectory, { recursive: true, force: true });
  }
  return found;
};

it('prints what an exchange costs, in ms: p50 (p10 to p90)', () =>
  withDirectory(async (directory) => {
    const rows: Record<string, string>[] = [];
    for (const shape of SHAPES) {
      for (const transport of TRANSPORTS) {
        const { exchange, wait, segment, medians } = await measure(shape, transport, directory);
        rows.push({
          ...{ size: shape.name, transport, exchange: times(exchange), wait: times(wait) },
          'best step': (Math.min(...medians) / 1000).toFixed(3),
          ...{ segment: times(segment), memcpy: times(memcpy(4 * shape.elements)) },
        });
      }
    }
    console.table(rows);
  }));
