/** What Prometheus reads, under names that charts of model servers know from vLLM. */
import { Counter, collectDefaultMetrics, Gauge, Histogram, Registry } from 'prom-client';
import { DENOISER, type RankStep } from '../cluster/index.js';
import type { SwapReport } from './swap-report.js';

/** How a request ended. */
export type Outcome = 'completed' | 'cancelled' | 'failed' | 'invalid' | 'rejected';
export const OUTCOMES: readonly Outcome[] = ['completed', 'cancelled', 'failed', 'invalid', 'rejected'];

/** Values that are read when somebody asks for them. */
export interface Readings {
  running(): number;
  waiting(): number;
  /** Whether a request would be taken: 1 or 0. */
  ready(): number;
  /** Since the start. */
  restarts(): number;
  swaps(): SwapReport;
  /** Since the start. */
  droppedLogLines(): number;
  /** bytes; index is the rank */
  rankMemory(): readonly number[];
}

export interface Metrics {
  readonly registry: Registry;
  requestEnded(outcome: Outcome): void;
  /** Every time in ms. */
  waited(ms: number): void;
  requestTook(ms: number): void;
  /** Of any network; only the denoiser's steps are timed. */
  stepDone(network: string, ranks: readonly RankStep[]): void;
}

// A step takes milliseconds on a toy and seconds on a large model; a request takes many of them.
const STEP_BUCKETS = [0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60];
const REQUEST_BUCKETS = [0.1, 0.25, 0.5, 1, 2.5, 5, 10, 20, 40, 60, 120, 240, 480, 960];

const addReadings = (registers: Registry[], readings: Readings): void => {
  const gauge = (name: string, help: string, read: () => number): void => {
    new Gauge({
      name,
      help,
      registers,
      collect() {
        this.set(read());
      },
    });
  };
  gauge('tandem_requests_running', 'Requests whose picture is being made.', readings.running);
  gauge('tandem_requests_waiting', 'Requests that wait for their turn.', readings.waiting);
  gauge('tandem_ready', '1 while requests are taken, else 0.', readings.ready);
  new Gauge({
    name: 'tandem_rank_memory_bytes',
    help: "Private memory of a rank's worker.",
    labelNames: ['rank'],
    registers,
    collect() {
      for (const [rank, bytes] of readings.rankMemory().entries()) this.set({ rank: String(rank) }, bytes);
    },
  });
  const counter = (name: string, help: string, read: () => number): void => {
    new Counter({
      name,
      help,
      registers,
      collect() {
        this.reset();
        this.inc(read());
      },
    });
  };
  counter('tandem_worker_restarts_total', 'Workers started again after they were lost.', readings.restarts);
  counter('tandem_log_lines_dropped_total', 'Lines of the log that nobody read.', readings.droppedLogLines);
  new Counter({
    name: 'tandem_model_swaps_total',
    help: 'Attempts to serve another version of the model, by how they ended.',
    labelNames: ['outcome'],
    registers,
    collect() {
      const { completed, failed } = readings.swaps();
      this.reset();
      this.inc({ outcome: 'completed' }, completed);
      this.inc({ outcome: 'failed' }, failed);
    },
  });
};

/** A registry of its own, so that several servers can live in one process. */
export const createMetrics = (readings: Readings): Metrics => {
  const registry = new Registry();
  const registers = [registry];
  collectDefaultMetrics({ register: registry });
  addReadings(registers, readings);
  const histogram = (name: string, help: string, buckets: number[]): Histogram =>
    new Histogram({ name, help, buckets, registers });
  const queueTime = histogram('tandem_request_queue_time_seconds', 'Time in line, per picture.', REQUEST_BUCKETS);
  const latency = histogram(
    'tandem_e2e_request_latency_seconds',
    'From the arrival of a request to its answer, of those that were completed.',
    REQUEST_BUCKETS,
  );
  const stepTime = histogram('tandem_step_time_seconds', 'A denoising step, on the slowest rank.', STEP_BUCKETS);
  const exchangeTime = histogram(
    'tandem_exchange_time_seconds',
    "A step's waiting for and moving of activations, on the rank where it took longest.",
    STEP_BUCKETS,
  );
  const wireBytes = new Counter({
    name: 'tandem_wire_bytes_total',
    help: 'Bytes of activations sent between ranks.',
    registers,
  });
  const requests = new Counter({
    name: 'tandem_requests_total',
    help: 'Image requests by how they ended.',
    labelNames: ['outcome'],
    registers,
  });
  for (const outcome of OUTCOMES) requests.inc({ outcome }, 0);
  const slowest = (ranks: readonly RankStep[], part: 'total_ms' | 'exchange_ms'): number =>
    Math.max(0, ...ranks.map(({ times }) => times[part])) / 1000;
  return {
    registry,
    requestEnded: (outcome) => requests.inc({ outcome }),
    waited: (ms) => queueTime.observe(ms / 1000),
    requestTook: (ms) => latency.observe(ms / 1000),
    stepDone: (network, ranks) => {
      if (network === DENOISER) {
        stepTime.observe(slowest(ranks, 'total_ms'));
        exchangeTime.observe(slowest(ranks, 'exchange_ms'));
      }
      wireBytes.inc(ranks.reduce((sum, { times }) => sum + times.sent_bytes, 0));
    },
  };
};
