/** `tandem verify`: do the workers compute what the model computes? */
import type { Command } from 'commander';
import { inspect } from '../../../partition/index.js';
import { formatBytes } from '../../config/bytes.js';
import type { Dims } from '../../shards/dims.js';
import { type BySegmentReport, verifyBySegment } from '../../verify/by-segment.js';
import { type VerifyReport, verify } from '../../verify/verify.js';
import { type CommonOptions, type ProcessContext, withContext } from '../context.js';
import { describeModel, sizesOf } from '../model-argument.js';
import {
  clusterFromOptions,
  type DeviceOptions,
  deviceCount,
  dimOption,
  jsonOption,
  nonNegativeInteger,
  nonNegativeNumber,
  positiveInteger,
  providerOption,
  quantizeOption,
  shardsOption,
  splitOption,
  threadsOption,
  traceOption,
  verboseOption,
  wireOption,
} from '../options.js';
import { formatShare } from '../text-table.js';

interface VerifyOptions extends DeviceOptions, CommonOptions {
  readonly dim: Dims;
  readonly seed: number;
  readonly rounds: number;
  readonly tolerance?: number;
  readonly bySegment?: true;
}

const HELP = `
The model runs twice on the same random inputs: whole, in one ONNX Runtime session on the CPU, and on real workers.
It passes when max |a-b| / max |b| is within the tolerance and all ranks end with the same bits; else the exit status is 1.
With --quantize int8, which rounds, it is the PSNR that must be at least 30 dB, unless a --tolerance is given.

With --by-segment it names the first tensor that leaves the road: each segment's results against the CPU's on the same inputs, with the
operator where a provider is wrong by itself, and what ranks have joined or added up against the whole model's tensor of that name.

MODEL may be a cluster config, which names its model and devices. Of a model directory the default picture decides the sizes.

Examples:
  $ tandem verify unet.onnx --tensor-parallel-size 2
  $ tandem verify unet.onnx --tensor-parallel-size 2 --quantize int8
  $ tandem verify models/emoji-sd --tensor-parallel-size 2 --wire-dtype fp16
  $ tandem verify configs/dual-cpu.yaml`;

const agreementText = ({ ranks_agree, ranks }: VerifyReport): string => {
  if (!ranks_agree) return 'NO';
  return new Set(ranks.map(({ device }) => device)).size > 1 ? 'yes, but for rounding' : 'yes, to the bit';
};

const verifyText = (report: VerifyReport): string =>
  [
    report.passed ? 'PASSED' : 'FAILED',
    `  max |a-b| / max |b|  ${report.max_rel_error.toExponential(2)}${report.tolerance === null ? '' : `  (limit ${report.tolerance.toExponential(0)})`}`,
    `  max |a-b|            ${report.max_abs_error.toExponential(2)}`,
    `  PSNR                 ${report.psnr_db.toFixed(1)} dB${report.min_psnr_db === null ? '' : `  (at least ${report.min_psnr_db} dB, since ${report.quantize === 'int8' ? 'weights are' : 'the wire is'} int8)`}`,
    `  ranks agree          ${agreementText(report)}`,
    `  split                ${formatShare(report.sharded_weight_fraction)} of the weights, ${formatShare(report.sharded_flop_fraction)} of the work, on ${report.world_size} ranks`,
    `  wire                 ${report.collective_count} collectives, ${formatBytes(report.wire_bytes_per_step)} sent a step as ${report.wire_dtype}`,
  ].join('\n');

const stoneText = ({ tensor, rank, file, against, error }: NonNullable<BySegmentReport['worst']>): string =>
  `"${tensor}" of rank ${rank} (${file}), ${error.toExponential(2)} of its largest value from ${against === 'cpu' ? "the CPU's on the same inputs" : "the whole model's"}`;

const bySegmentText = ({ passed, compared, worst, first, tolerance }: BySegmentReport): string =>
  [
    passed ? 'PASSED' : 'FAILED',
    `  compared  ${compared} tensors, limit ${tolerance.toExponential(0)}`,
    ...(first ? [`  first     ${stoneText(first)}`] : worst ? [`  farthest  ${stoneText(worst)}`] : []),
    ...(first?.operator
      ? [
          `  operator  node "${first.operator.node}", ${first.operator.operator} of ${first.operator.inputs.join(', ')} to ${first.operator.output}: ${first.operator.error.toExponential(2)}`,
        ]
      : []),
  ].join('\n');

export const addVerify = (program: Command, outer: ProcessContext): void => {
  program
    .command('verify <MODEL>')
    .description('Run real workers against the whole model on random inputs, and compare.')
    .option('--tensor-parallel-size <n>', 'ranks to split over', deviceCount)
    .option('--config <file>', 'cluster config whose devices and wire to use')
    .addOption(dimOption())
    .addOption(providerOption())
    .addOption(threadsOption())
    .addOption(wireOption())
    .addOption(quantizeOption())
    .addOption(splitOption())
    .addOption(shardsOption())
    .option('--seed <n>', 'seed of the random inputs', nonNegativeInteger, 0)
    .option('--rounds <n>', 'steps to compare, each on other inputs', positiveInteger, 1)
    .option(
      '--tolerance <x>',
      'greatest max |a-b| / max |b| that passes (default: 1e-4, 1e-2 with an fp16 wire; PSNR instead for int8)',
      nonNegativeNumber,
    )
    .option('--by-segment', 'name the first tensor that leaves the whole model or the CPU')
    .addOption(traceOption())
    .addOption(jsonOption())
    .addOption(verboseOption())
    .addHelpText('after', HELP)
    .action((argument: string, given: VerifyOptions, command: Command) =>
      withContext(outer, given, async (context) => {
        const { model, options } = await describeModel(argument, given);
        const cluster = await clusterFromOptions(options, command);
        const { inputs } = await inspect(model.path);
        const request = {
          ...context,
          ...cluster,
          model,
          dims: await sizesOf(model, inputs, options.dim, cluster, context.onNotice),
          seed: options.seed,
          rounds: options.rounds,
          ...(options.tolerance === undefined ? {} : { tolerance: options.tolerance }),
        };
        if (options.bySegment) {
          const road = await verifyBySegment(request);
          context.print(road, () => bySegmentText(road));
          if (!road.passed) context.setStatus(1);
          return;
        }
        const report = await verify(request);
        context.print(report, () => verifyText(report));
        if (!report.passed) context.setStatus(1);
      }),
    );
};
