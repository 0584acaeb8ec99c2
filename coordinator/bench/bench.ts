/** Measures runs against each other, step by step in turns, and against one plain ONNX Runtime session. */
import { Bench, type Statistics } from 'tinybench';
import { TandemError } from '../../common/errors.js';
import type { PlanReport } from '../../partition/index.js';
import { readModel } from '../../partition/read/index.js';
import { checkCancelled, type Hooks } from '../hooks.js';
import { closing } from '../start-cluster.js';
import { Alternation } from './alternation.js';
import { checkComparable } from './comparable.js';
import { type Conditions, conditionsNow } from './conditions.js';
import {
  type BenchRun,
  type Contestant,
  inputsOfMesh,
  openCluster,
  openPlain,
  predict,
  prepareRuns,
  totalThreads,
} from './contestant.js';

export type { BenchRun } from './contestant.js';

export interface BenchRequest extends Hooks {
  /** At least one; the first is what the last is compared with. All run the same model with the same dims. */
  readonly runs: readonly BenchRun[];
  /** Measured steps of each run. */
  readonly steps: number;
  /** Of the random inputs, which are the same for all; 0 where absent. */
  readonly seed?: number;
  /** Whether to measure the plain alternative too; true where absent. */
  readonly plain?: boolean;
}

export interface BenchRunReport {
  readonly name: string;
  readonly world_size: number;
  /** Of all workers together. */
  readonly threads: number;
  /** From the first process's start until all were ready. */
  readonly load_ms: number;
  readonly step_ms: {
    readonly p50: number;
    readonly p99: number;
    readonly mean: number;
    /** How many were measured. */
    readonly samples: number;
    readonly values: readonly number[];
  };
  /** Where a step's time goes: means over ranks and steps; `control` is the way to the workers and back. */
  readonly phases_ms: { readonly compute: number; readonly exchange: number; readonly control: number };
  readonly exchange_ms_per_step: number;
  /** What `tandem plan` says of the same step; null for the plain session. */
  readonly predicted: PlanReport['predicted'] | null;
  readonly wire_bytes_per_step: number;
  readonly workers: readonly {
    readonly rank: number;
    readonly pid: number;
    readonly weight_bytes: number;
    readonly peak_private_bytes: number;
    readonly mapped_bytes: number;
  }[];
}

/** How many times better the last run is than the first. */
export interface Speedup {
  /** Median step time. */
  readonly step: number;
  readonly load: number;
  /** Memory of the largest worker: its peak of private memory, and its weights where they are mapped. */
  readonly memory: number;
}

/** What `tandem bench` says; the JSON keys are a contract. */
export interface BenchReport {
  readonly model: string;
  readonly dims: Readonly<Record<string, number>>;
  readonly runs: readonly BenchRunReport[];
  readonly speedup: Speedup;
  /** One ONNX Runtime session with as many threads as the last run's workers have together; null where left out. */
  readonly plain: BenchRunReport | null;
  readonly conditions: Conditions;
}

type RankTimes = Awaited<ReturnType<Contestant['step']>>;

interface Measured {
  readonly contestant: Contestant;
  readonly latency: Statistics;
  readonly values: readonly number[];
  readonly times: readonly RankTimes[];
}

const mean = (values: readonly number[]): number =>
  values.reduce((sum, value) => sum + value, 0) / Math.max(1, values.length);

const WARMUP_STEPS = 1;

/** Everything for a fair race in one tinybench run, whose tasks run at once and take turns. */
const race = async (contestants: readonly Contestant[], request: BenchRequest): Promise<readonly Measured[]> => {
  const alternation = new Alternation(contestants.length);
  const times = contestants.map((): RankTimes[] => []);
  const total = (request.steps + WARMUP_STEPS) * contestants.length;
  let done = 0;
  const bench = new Bench({
    concurrency: 'bench',
    iterations: request.steps,
    time: 0,
    warmup: true,
    warmupIterations: WARMUP_STEPS,
    warmupTime: 0,
    retainSamples: true,
    throws: true,
  });
  for (const [index, contestant] of contestants.entries()) {
    // The wait for a turn is not part of the step, so the step times itself.
    const step = async (): Promise<{ readonly overriddenDuration: number }> => {
      checkCancelled(request.signal);
      const start = performance.now();
      times[index]?.push(await contestant.step());
      const overriddenDuration = (performance.now() - start) / contestant.steps;
      done += 1;
      request.onProgress?.('steps', done, total);
      return { overriddenDuration };
    };
    // Said to be async, or tinybench would call it once more, out of turn, to find out.
    bench.add(`${index} ${contestant.name}`, () => alternation.take(index, step), { async: true });
  }
  await bench.run();
  return contestants.map((contestant, index): Measured => {
    const result = bench.tasks[index]?.result;
    if (result?.state !== 'completed') {
      throw new TandemError(
        'BENCH_FAILED',
        `Expected "${contestant.name}" to be measured; tinybench says "${result?.state}".`,
      );
    }
    const { latency } = result;
    return { contestant, latency, values: latency.samples ?? [], times: (times[index] ?? []).slice(-request.steps) };
  });
};

const report = ({ contestant, latency, values, times }: Measured): BenchRunReport => {
  const ranks = times.flat();
  const exchange = mean(ranks.map(({ exchange_ms }) => exchange_ms));
  return {
    name: contestant.name,
    world_size: contestant.worldSize,
    threads: contestant.threads,
    load_ms: contestant.loadMs,
    step_ms: { p50: latency.p50, p99: latency.p99, mean: latency.mean, samples: values.length, values },
    phases_ms: {
      compute: mean(ranks.map(({ compute_ms }) => compute_ms)),
      exchange,
      control: Math.max(0, latency.mean - mean(ranks.map(({ total_ms }) => total_ms))),
    },
    exchange_ms_per_step: exchange,
    predicted: contestant.predicted,
    wire_bytes_per_step: contestant.wireBytesPerStep,
    workers: contestant.workers(),
  };
};

/** bytes */
export const largestWorker = (run: BenchRunReport): number =>
  Math.max(0, ...run.workers.map((worker) => worker.peak_private_bytes + worker.mapped_bytes));

/** How many times better `run` is than `baseline`. */
export const compareRuns = (baseline: BenchRunReport, run: BenchRunReport): Speedup => ({
  step: baseline.step_ms.p50 / run.step_ms.p50,
  load: baseline.load_ms / run.load_ms,
  memory: largestWorker(baseline) / Math.max(1, largestWorker(run)),
});

const weightBytesOf = async (path: string): Promise<number> => {
  const { weights } = await readModel(path, { requireWeights: true });
  return [...weights.values()].reduce((sum, { bytes }) => sum + bytes, 0);
};

/** Opens everyone, one after the other, so that no one's loading slows another's. */
const openAll = async (request: BenchRequest, last: BenchRun, opened: Contestant[]): Promise<void> => {
  const shards = await prepareRuns(request.runs, request);
  const seed = request.seed ?? 0;
  for (const [index, run] of request.runs.entries()) {
    const prepared = shards[index];
    if (prepared) opened.push(await openCluster(run, prepared, await predict(run), seed, request));
  }
  const [first] = shards;
  if (request.plain === false || !first) return;
  const weightBytes = await weightBytesOf(last.model.path);
  const inputs = inputsOfMesh(first);
  const plain = { run: last, threads: totalThreads(last.devices), weightBytes, timeouts: last.timeouts };
  opened.push(await openPlain(plain, inputs, seed, request));
};

/**
 * Measures all runs in turns, after one step each to warm up.
 * @throws TandemError `BENCH_RUNS` where the runs cannot be compared; as `prepareShards` and `launchCluster` do otherwise.
 *   No process is left behind.
 */
export const bench = async (request: BenchRequest): Promise<BenchReport> => {
  const [first, last] = checkComparable(request.runs);
  const opened: Contestant[] = [];
  const closeAll = async (): Promise<void> => {
    await Promise.all(opened.map((contestant) => contestant.close()));
  };
  return closing(request.signal, closeAll, async () => {
    await openAll(request, last, opened);
    const reports = (await race(opened, request)).map(report);
    const runs = reports.slice(0, request.runs.length);
    const [baseline] = runs;
    const final = runs.at(-1);
    if (!baseline || !final)
      throw new TandemError('BENCH_RUNS', 'Expected at least one run to be measured; found none.');
    return {
      model: first.model.path,
      dims: first.dims,
      runs,
      speedup: compareRuns(baseline, final),
      plain: reports[runs.length] ?? null,
      conditions: conditionsNow(),
    };
  });
};
