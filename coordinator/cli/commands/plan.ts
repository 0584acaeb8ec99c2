/** `tandem plan`: how a model would be split, without writing anything. */
import type { Command } from 'commander';
import { inspect, type PlanReport, plan } from '../../../partition/index.js';
import { formatBytes } from '../../config/bytes.js';
import { type Dims, requireDims } from '../../shards/dims.js';
import { findDenoiserModel } from '../../shards/model.js';
import { type CommonOptions, type ProcessContext, withContext } from '../context.js';
import {
  clusterFromOptions,
  type DeviceOptions,
  dimOption,
  jsonOption,
  positiveInteger,
  providerOption,
  quantizeOption,
  threadsOption,
  verboseOption,
  wireOption,
} from '../options.js';
import { formatMs, formatRatio, formatShare, formatTable } from '../table.js';

interface PlanOptions extends DeviceOptions, CommonOptions {
  readonly dim: Dims;
}

const HELP = `
Only the graph is read: weights may be missing. --json prints ranks, fractions, collectives and predicted times.
With --quantize int8 the weights are as small as they will be; the times are those of float32.

Examples:
  $ tandem plan unet.onnx --tensor-parallel-size 2
  $ tandem plan models/emoji-sd --config configs/dual-cpu.yaml --dim batch_size=2 --dim height=8 --dim width=8 --dim sequence_length=77`;

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

/** The report for people. */
export const planText = (report: PlanReport): string => {
  const { predicted } = report;
  return [
    `${formatShare(report.sharded_weight_fraction)} of the weights and ${formatShare(report.sharded_flop_fraction)} of the work are split over ${report.world_size} ranks.`,
    `Predicted step: ${formatMs(predicted.step_ms)}, against ${formatMs(predicted.single_step_ms)} on one device (${formatRatio(predicted.speedup)}).`,
    `${report.segments} segments a rank; ${report.collective_count} collectives; ${formatBytes(report.wire_bytes_per_step)} sent a step.`,
    '',
    ranksTable(report),
    ...(report.collectives.length > 0 ? ['', collectivesTable(report)] : []),
    '',
    replicatedTable(report),
  ].join('\n');
};

export const addPlan = (program: Command, outer: ProcessContext): void => {
  program
    .command('plan <MODEL>')
    .description('Show how a model would be split: a dry run that writes nothing.')
    .option('--tensor-parallel-size <n>', 'ranks to split over', positiveInteger)
    .option('--config <file>', 'cluster config whose devices, speeds and memory limits to plan for')
    .addOption(dimOption())
    .addOption(providerOption())
    .addOption(threadsOption())
    .addOption(wireOption())
    .addOption(quantizeOption())
    .addOption(jsonOption())
    .addOption(verboseOption())
    .addHelpText('after', HELP)
    .action((model: string, options: PlanOptions, command: Command) =>
      withContext(outer, options, async (context) => {
        const { path } = findDenoiserModel(model);
        const cluster = await clusterFromOptions(options, command);
        const { inputs } = await inspect(path);
        const report = await plan(path, {
          devices: cluster.devices,
          profiles: [requireDims(inputs, options.dim)],
          wireDtype: cluster.wire.dtype,
          quantize: cluster.quantize,
          onProgress: context.onProgress,
        });
        context.print(report, () => planText(report));
      }),
    );
};
