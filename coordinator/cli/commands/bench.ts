/** `tandem bench`: single against dual, and against plain ONNX Runtime. */
import { writeFile } from 'node:fs/promises';
import { basename, resolve } from 'node:path';
import type { Command } from 'commander';
import { inspect, type MeshShape, meshSize, runsPassesApart, shapeText } from '../../../partition/index.js';
import { type BenchReport, type BenchRunReport, bench, compareRuns, largestWorker } from '../../bench/bench.js';
import type { ColdPicture, ColdRun } from '../../bench/cold-contestant.js';
import { drawBenchReport } from '../../bench/step-chart.js';
import { conditionsText, verdict } from '../../bench/verdict.js';
import { withCalibration } from '../../calibration/index.js';
import { formatBytes } from '../../config/bytes.js';
import { type ClusterConfig, defaultShardsDirectory, readClusterConfig } from '../../config/index.js';
import { planDenoiser, planPicture } from '../../generate/picture.js';
import type { Hooks } from '../../hooks.js';
import { checkOutFile } from '../../out-file.js';
import type { Dims } from '../../shards/dims.js';
import { findDenoiserModel } from '../../shards/model.js';
import { prepareShowcase, SHOWCASE_DIMS } from '../../showcase/index.js';
import { type CommonOptions, type ProcessContext, withContext } from '../context.js';
import { sizesOf } from '../model-argument.js';
import {
  addText,
  type DeviceOptions,
  deviceCounts,
  dimOption,
  jsonOption,
  nonNegativeInteger,
  parallelOption,
  positiveInteger,
  providerOption,
  quantizeOption,
  refuseMixed,
  shardsOption,
  splitOption,
  threadsOption,
  traceOption,
  uniformCluster,
  usageError,
  verboseOption,
  wireOption,
} from '../options.js';
import { formatMs, formatRatio, formatTable } from '../text-table.js';
import { type ColdOptions, chartOption, coldOption, pageCacheOption, runBenchCold } from './bench-cold.js';
import { UNCALIBRATED } from './plan.js';

interface BenchOptions extends Omit<DeviceOptions, 'tensorParallelSize' | 'config'>, CommonOptions, ColdOptions {
  readonly config?: readonly string[];
  readonly tensorParallelSize?: readonly number[];
  readonly dim: Dims;
  readonly steps: number;
  readonly microBatches: number;
  readonly concurrency: number;
  readonly parallel?: readonly MeshShape[];
  readonly showcase?: boolean;
}

const HELP = `
All runs are loaded at the same time and step in turns, so that noise hits all of them; "plain" is one ONNX Runtime
session with as many threads as the last run's workers have together. The speedup is the last run's over the first's. The
verdict at the end says both runs in a sentence, with machine, versions and date; --chart draws where their steps go.

With --cold, each run is started alone, once with its files only on the disk and once with them in memory; the speedup is
then the last run's over plain's. Dropping files from memory takes Linux and GNU dd, but no privileges.

With --parallel, a MODEL is also measured on groups of devices: --parallel pipeline=2 on two stages with a part of the model each,
--parallel guidance=2 with a pass of guidance each, --parallel tokens=2 with a part of each picture's tokens or rows, --parallel
replicas=2 with a picture each; and products of these, such as --parallel tensor=2,guidance=2. --concurrency 4 makes four pictures at once; a step's time is then that of all together, per step.

With --micro-batches 2, each step runs the network twice, both under way at once, as guidance does where the model was opened
for one prompt at a time: one computes while the other's tensors travel.

With --showcase, the model is Stable Diffusion 1.5's denoiser at its real size, made here with weights from a seed and kept with
the shards (10 GB with them; 9 GB of memory): one device against two, one thread each, a guided step of a picture of 512x512.

Examples:
  $ tandem bench --config configs/single-cpu.yaml --config configs/dual-cpu.yaml --chart steps.svg
  $ tandem bench unet.onnx --tensor-parallel-size 1,2 --provider cpu --threads 1 --steps 5 --json
  $ tandem bench --config configs/single-cpu.yaml --config configs/dual-cpu.yaml --cold --chart cold.svg
  $ tandem bench --showcase --chart steps.svg`;

const FIRST_PROMPT = 'a red apple';

/** The picture that a start is measured to. */
const pictureOf = async (config: ClusterConfig, options: BenchOptions): Promise<ColdPicture | undefined> => {
  if (findDenoiserModel(config.model).directory === undefined) return undefined;
  const picture = await planPicture(config, { dims: options.dim });
  const { directory, width, height, guidanceScale, numInferenceSteps, scheduler } = picture;
  const request = { prompt: FIRST_PROMPT, seed: options.seed, numInferenceSteps, guidanceScale, width, height };
  return { directory, request, ...(scheduler === undefined ? {} : { scheduler }) };
};

const configRun = async (file: string, options: BenchOptions): Promise<ColdRun> => {
  const config = await readClusterConfig(file);
  const { model, dims } = await planDenoiser(config, options.dim);
  const picture = await pictureOf(config, options);
  const name = basename(file).replace(/\.ya?ml$/, '');
  return { ...config, name, model, dims, ...(picture ? { picture } : {}) };
};

const modelRuns = async (model: string, options: BenchOptions, { onNotice }: Hooks): Promise<readonly ColdRun[]> => {
  const denoiser = findDenoiserModel(model);
  const { inputs } = await inspect(denoiser.path);
  // All are opened for the same sizes: for one pass of guidance at a time, where one of them takes it so.
  const apart = options.parallel?.find(runsPassesApart);
  const dims = await sizesOf(denoiser, inputs, options.dim, apart === undefined ? {} : { mesh: apart }, onNotice);
  const sizes = options.tensorParallelSize ?? (options.parallel === undefined ? [1, 2] : [1]);
  const run = async (size: number, more: Pick<ColdRun, 'name' | 'mesh'>): Promise<ColdRun> => ({
    ...(await withCalibration(uniformCluster(size, options))),
    ...more,
    model: denoiser,
    dims,
  });
  return Promise.all([
    ...sizes.map((size) => run(size, { name: `tensor-parallel-${size}` })),
    ...(options.parallel ?? []).map((mesh) => run(meshSize(mesh), { name: shapeText(mesh), mesh })),
  ]);
};

/** One device against two on a model of real size, with a thread each where nothing else is said. */
const showcaseRuns = async (options: BenchOptions, hooks: Hooks): Promise<readonly ColdRun[]> => {
  const root = options.shards === undefined ? defaultShardsDirectory() : resolve(options.shards);
  const model = await prepareShowcase(root, hooks);
  return modelRuns(
    model,
    { ...options, threads: options.threads ?? 1, dim: { ...SHOWCASE_DIMS, ...options.dim } },
    hooks,
  );
};

/** @throws TandemError `USAGE` where it is not clear what to compare */
const runsOf = async (
  model: string | undefined,
  options: BenchOptions,
  command: Command,
  hooks: Hooks,
): Promise<readonly ColdRun[]> => {
  const configs = options.config ?? [];
  if ([model !== undefined, configs.length > 0, options.showcase === true].filter(Boolean).length > 1)
    throw usageError('Expected one of a MODEL, --config files and --showcase; found several.');
  if (options.showcase) return showcaseRuns(options, hooks);
  if (model !== undefined) return modelRuns(model, options, hooks);
  if (configs.length === 0) {
    throw usageError(
      'Expected --config FILE (once for each cluster to compare), a MODEL with --tensor-parallel-size 1,2, or --showcase.',
    );
  }
  if (options.tensorParallelSize !== undefined)
    throw usageError('--tensor-parallel-size needs a MODEL; a config says it itself.');
  refuseMixed(command);
  return Promise.all(configs.map((file) => configRun(file, options)));
};

const runRow = (run: BenchRunReport, baseline: BenchRunReport): readonly string[] => {
  const { step, memory } = compareRuns(baseline, run);
  return [
    run.name,
    String(run.world_size),
    String(run.threads),
    formatMs(run.load_ms),
    formatMs(run.step_ms.p50),
    formatMs(run.step_ms.p99),
    run.predicted ? formatMs(run.predicted.step_ms) : '',
    formatRatio(step),
    formatBytes(largestWorker(run)),
    formatRatio(memory),
  ];
};

const phaseRow = (run: BenchRunReport): readonly string[] => [
  run.name,
  formatMs(run.phases_ms.compute),
  formatMs(run.phases_ms.exchange),
  formatMs(run.phases_ms.control),
  formatBytes(run.wire_bytes_per_step),
];

const right = (title: string) => ({ title, align: 'right' as const });

const benchText = (report: BenchReport): string => {
  const all = [...report.runs, ...(report.plain ? [report.plain] : [])];
  const [baseline] = report.runs;
  if (!baseline) return 'Nothing was measured.';
  const main = [
    { title: 'run' },
    right('ranks'),
    right('threads'),
    right('load'),
    right('step p50'),
    right('step p99'),
    right('predicted'),
    right('speedup'),
    right('largest worker'),
    right('less memory'),
  ];
  const phases = [{ title: 'where a step goes' }, right('compute'), right('exchange'), right('control'), right('sent')];
  return [
    formatTable(
      main,
      all.map((run) => runRow(run, baseline)),
    ),
    '',
    formatTable(phases, all.map(phaseRow)),
    '',
    `${baseline.step_ms.samples} steps each, in turns. "largest worker" is its peak of private memory and its mapped weights; speedup and memory are against ${baseline.name}.`,
    ...(report.runs.some(({ predicted }) => predicted?.calibrated === false) ? [UNCALIBRATED] : []),
    '',
    verdict(report),
    conditionsText(report),
  ].join('\n');
};

export const addBench = (program: Command, outer: ProcessContext): void => {
  program
    .command('bench [MODEL]')
    .description('Measure one cluster against another, and against plain ONNX Runtime.')
    .option('--config <file>', 'cluster config to measure; repeat it for each', addText)
    .option('--tensor-parallel-size <n,n>', 'with a MODEL: world sizes to measure (default: 1,2)', deviceCounts)
    .addOption(dimOption())
    .addOption(providerOption())
    .addOption(threadsOption())
    .addOption(wireOption())
    .addOption(quantizeOption())
    .addOption(splitOption())
    .addOption(shardsOption())
    .option('--steps <n>', 'measured steps of each run', positiveInteger, 5)
    .option('--micro-batches <n>', 'runs of the network in a step, all under way at once', positiveInteger, 1)
    .addOption(parallelOption())
    .option('--concurrency <n>', 'pictures that are made at once', positiveInteger, 1)
    .option('--seed <n>', 'seed of the random inputs', nonNegativeInteger, 0)
    .option('--showcase', 'measure a model of real size, which needs no download')
    .addOption(coldOption())
    .addOption(pageCacheOption())
    .addOption(chartOption())
    .option('--no-plain', 'leave out the plain ONNX Runtime session')
    .addOption(traceOption())
    .addOption(jsonOption())
    .addOption(verboseOption())
    .addHelpText('after', HELP)
    .action((model: string | undefined, options: BenchOptions, command: Command) =>
      withContext(outer, options, async (context) => {
        const { steps, seed, plain } = options;
        const { microBatches, concurrency } = options;
        if (options.cold && options.parallel !== undefined)
          throw usageError('--parallel and --cold cannot both be given: a start is measured on one group of devices.');
        if (options.cold && microBatches > 1)
          throw usageError('--micro-batches and --cold cannot both be given: a start has no steps to overlap.');
        if (options.chart !== undefined) await checkOutFile(options.chart);
        const runs = (await runsOf(model, options, command, context)).map((run) => ({
          ...run,
          microBatches,
          concurrency,
        }));
        if (options.cold) return runBenchCold(runs, options, context);
        const report = await bench({ ...context, runs, steps, seed, plain });
        if (options.chart !== undefined) await writeFile(options.chart, drawBenchReport(report));
        context.print({ ...report, verdict: verdict(report) }, () => benchText(report));
      }),
    );
};
