/** `tandem plan`: how a model would be split, without writing any shards. */
import { writeFile } from 'node:fs/promises';
import type { Command } from 'commander';
import {
  bestFor,
  inspect,
  type MeshCost,
  type PlanReport,
  plan,
  planMeshes,
  shapeText,
} from '../../../partition/index.js';
import { calibrate, withCalibration } from '../../calibration/index.js';
import { formatBytes } from '../../config/bytes.js';
import type { ClusterSettings } from '../../config/index.js';
import { APART, CONCURRENCY, meshRequest } from '../../generate/follow-plan.js';
import { dryRunHosting, type NetworkReport } from '../../hosting/dry-run.js';
import { checkOutFile } from '../../out-file.js';
import { drawPlanPage } from '../../plan-page/page.js';
import type { Dims } from '../../shards/dims.js';
import type { DenoiserModel } from '../../shards/model.js';
import { denoiserRequest } from '../../shards/request.js';
import { type CommandContext, type CommonOptions, type ProcessContext, withContext } from '../context.js';
import { describeModel, sizesOf } from '../model-argument.js';
import {
  type DeviceOptions,
  deviceCount,
  dimOption,
  jsonOption,
  providerOption,
  quantizeOption,
  splitOption,
  threadsOption,
  uncalibratedFromOptions,
  verboseOption,
  wireOption,
} from '../options.js';
import { formatMs, formatRatio, formatShare, formatTable } from '../text-table.js';

interface PlanOptions extends DeviceOptions, CommonOptions {
  readonly dim: Dims;
  readonly html?: string;
  readonly calibrate?: boolean;
}

const HELP = `
Only the graph is read: weights may be missing. Times are typical ones until --calibrate has measured this machine, on this
model's operators; bench then shows predicted beside measured, and the planner divides by what was measured. --json prints
ranks, fractions, collectives, blocks and predicted times; --html draws them. With --quantize int8 the weights are as small as
they will be; the times are those of float32. Of a model directory it is also told where text encoders and VAE decoder run: in
the coordinator's own process, or on the workers, as the config's placement and memory limits say.

MODEL may be a cluster config, which names its model and devices. Of a model directory the default picture decides the sizes.

Examples:
  $ tandem plan unet.onnx --tensor-parallel-size 2 --html plan.html
  $ tandem plan models/emoji-sd --tensor-parallel-size 2
  $ tandem plan configs/dual-cpu.yaml`;

/** Rows of the replicated table that are shown; the JSON has all. */
const SHOWN = 12;

const ranksTable = (report: PlanReport): string =>
  formatTable(
    [
      { title: 'rank', align: 'right' },
      { title: 'device' },
      { title: 'weights', align: 'right' },
      { title: 'activations', align: 'right' },
      { title: 'work', align: 'right' },
    ],
    report.ranks.map((rank) => [
      String(rank.rank),
      rank.device,
      formatBytes(rank.weight_bytes),
      formatBytes(rank.activation_peak_bytes),
      formatShare(rank.flop_fraction),
    ]),
  );

const collectivesTable = (report: PlanReport): string => {
  const kinds = [...new Set(report.collectives.map(({ kind }) => kind))];
  return formatTable(
    [{ title: 'collective' }, { title: 'count', align: 'right' }, { title: 'bytes a step', align: 'right' }],
    kinds.map((kind) => {
      const all = report.collectives.filter((collective) => collective.kind === kind);
      return [kind, String(all.length), formatBytes(all.reduce((sum, { bytes }) => sum + bytes, 0))];
    }),
  );
};

const replicatedTable = (report: PlanReport): string => {
  const rows = [...report.replicated].sort((a, b) => b.flop_fraction - a.flop_fraction);
  if (rows.length === 0) return 'Nothing with work in it stays whole.';
  const more = rows.length > SHOWN ? `\n... and ${rows.length - SHOWN} more; --json lists all` : '';
  const table = formatTable(
    [{ title: 'stays whole' }, { title: 'op' }, { title: 'work', align: 'right' }, { title: 'because' }],
    rows.slice(0, SHOWN).map((row) => [row.node, row.op, formatShare(row.flop_fraction), row.reason]),
  );
  return `${table}${more}`;
};

const NAMES: Readonly<Record<PlanReport['alternatives'][number]['name'], string>> = {
  'tensor-parallel': 'split the tensors',
  'single-device': 'do not split',
  'guidance-batch': 'split the guidance batch',
  tokens: 'split the tokens',
};

const alternativesTable = ({ alternatives, recommendation }: PlanReport): string => {
  const table = formatTable(
    [
      { title: 'plan' },
      { title: 'step', align: 'right' },
      { title: 'weights of a rank', align: 'right' },
      { title: 'sent a step', align: 'right' },
      { title: 'fits' },
    ],
    alternatives.map(({ name, step_ms, weight_bytes_per_rank, wire_bytes_per_step, fits }, index) => [
      index === 0 ? `${NAMES[name]} (this plan)` : NAMES[name],
      formatMs(step_ms),
      formatBytes(Math.max(...weight_bytes_per_rank)),
      formatBytes(wire_bytes_per_step),
      fits ? 'yes' : 'no',
    ]),
  );
  return recommendation === null ? table : `${table}\n${recommendation}`;
};

/** How the devices could be used, for both aims. */
const meshesTable = (meshes: readonly MeshCost[], concurrency: number): string => {
  const best = { latency: bestFor(meshes, 'latency'), throughput: bestFor(meshes, 'throughput') };
  const mark = (mesh: MeshCost): string =>
    (['latency', 'throughput'] as const).filter((aim) => best[aim] === mesh).join(', ');
  return formatTable(
    [
      { title: 'groups of devices' },
      { title: 'one picture', align: 'right' },
      { title: `${concurrency} at once, each`, align: 'right' },
      { title: 'weights of a rank', align: 'right' },
      { title: 'sent a run', align: 'right' },
      { title: 'fits' },
      { title: 'best for' },
    ],
    meshes.map((mesh) => [
      shapeText(mesh.shape),
      formatMs(mesh.latency_step_ms),
      formatMs(mesh.throughput_step_ms),
      formatBytes(mesh.weight_bytes),
      formatBytes(mesh.wire_bytes),
      mesh.fits ? 'yes' : 'no',
      mark(mesh),
    ]),
  );
};

/** Said where times rest on typical rates. */
export const UNCALIBRATED =
  'Predicted with typical rates: measure this machine with `tandem plan MODEL --calibrate` for better ones.';

const PLACES: Readonly<Record<NetworkReport['placement'], (ranks: NetworkReport['ranks']) => string>> = {
  coordinator: () => 'coordinator',
  rank: (ranks) => `rank ${ranks[0]?.rank}`,
  shard: (ranks) => `split over ${ranks.length} ranks`,
};

const bytesText = (bytes: number | null): string => (bytes === null ? 'unknown' : formatBytes(bytes));

const networksTable = (networks: readonly NetworkReport[]): string =>
  formatTable(
    [
      { title: 'other networks' },
      { title: 'runs' },
      { title: 'weights', align: 'right' },
      { title: 'of a rank', align: 'right' },
      { title: 'activations', align: 'right' },
      { title: 'because' },
    ],
    networks.map(({ name, placement, ranks, weight_bytes, activation_peak_bytes, reason }) => [
      name,
      PLACES[placement](ranks),
      bytesText(weight_bytes),
      ranks.length === 0 ? '' : formatBytes(Math.max(...ranks.map((rank) => rank.weight_bytes))),
      bytesText(activation_peak_bytes),
      reason,
    ]),
  );

/**
 * The report for people.
 * @param networks beside the denoiser, if any
 */
export const planText = (
  report: PlanReport,
  networks: readonly NetworkReport[],
  meshes: readonly MeshCost[] = [],
): string => {
  const { predicted } = report;
  return [
    `${formatShare(report.sharded_weight_fraction)} of the weights and ${formatShare(report.sharded_flop_fraction)} of the work are split over ${report.world_size} ranks.`,
    `Predicted step: ${formatMs(predicted.step_ms)}, against ${formatMs(predicted.single_step_ms)} on one device (${formatRatio(predicted.speedup)}).`,
    ...(predicted.calibrated ? [] : [UNCALIBRATED]),
    `${report.segments} segments a rank; ${report.collective_count} collectives; ${formatBytes(report.wire_bytes_per_step)} sent a step.`,
    '',
    ranksTable(report),
    ...(report.alternatives.length > 1 ? ['', alternativesTable(report)] : []),
    ...(meshes.length > 1 ? ['', meshesTable(meshes, CONCURRENCY)] : []),
    ...(report.collectives.length > 0 ? ['', collectivesTable(report)] : []),
    '',
    replicatedTable(report),
    ...(networks.length > 0 ? ['', networksTable(networks)] : []),
  ].join('\n');
};

/** The cluster with measured rates; they are measured first where that was asked for. */
const withRates = async (
  cluster: ClusterSettings,
  model: DenoiserModel,
  dims: Dims,
  options: PlanOptions,
  context: CommandContext,
): Promise<ClusterSettings> => {
  const { onProgress, signal } = context;
  if (options.calibrate) {
    await calibrate({ model, dims, cluster, onProgress, signal });
    context.onNotice(`Wrote what was measured to ${cluster.calibration}.`);
  }
  return withCalibration(cluster);
};

export const addPlan = (program: Command, outer: ProcessContext): void => {
  program
    .command('plan <MODEL>')
    .description('Show how a model would be split: a dry run that writes nothing.')
    .option('--tensor-parallel-size <n>', 'ranks to split over', deviceCount)
    .option('--config <file>', 'cluster config whose devices, speeds and memory limits to plan for')
    .addOption(dimOption())
    .addOption(providerOption())
    .addOption(threadsOption())
    .addOption(wireOption())
    .addOption(quantizeOption())
    .addOption(splitOption())
    .option('--calibrate', "first measure this machine: the model's operators on each device, and exchanges")
    .option('--html <file>', 'draw the plan as a page that needs nothing but a browser')
    .addOption(jsonOption())
    .addOption(verboseOption())
    .addHelpText('after', HELP)
    .action((argument: string, given: PlanOptions, command: Command) =>
      withContext(outer, given, async (context) => {
        if (given.html !== undefined) await checkOutFile(given.html);
        const { model, options } = await describeModel(argument, given);
        const { path, name } = model;
        const described = await uncalibratedFromOptions(options, command);
        const { inputs } = await inspect(path);
        const dims = await sizesOf(model, inputs, options.dim, described, context.onNotice);
        const cluster = await withRates(described, model, dims, options, context);
        const { onProgress } = context;
        const report = await plan(denoiserRequest(cluster, { model, dims }), { onProgress });
        const apart = await sizesOf(model, inputs, options.dim, { ...cluster, mesh: APART }, () => undefined);
        const meshes = await planMeshes(meshRequest(denoiserRequest(cluster, { model, dims }), apart), { onProgress });
        const networks = await dryRunHosting({
          model,
          dims,
          settings: cluster,
          report,
          onNotice: context.onNotice,
        });
        if (options.html !== undefined) await writeFile(options.html, drawPlanPage(report, name));
        context.print({ ...report, networks, meshes }, () => planText(report, networks, meshes));
      }),
    );
};
