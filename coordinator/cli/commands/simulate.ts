/** `tandem simulate`: what a model's step would take on numbers of devices and over links that are not there. */
import { writeFile } from 'node:fs/promises';
import { type Command, InvalidArgumentError } from 'commander';
import { inspect, LINK_NAMES } from '../../../partition/index.js';
import { checkOutFile } from '../../out-file.js';
import type { Dims } from '../../shards/dims.js';
import { drawCurves } from '../../simulate/curves.js';
import { type SimulationReport, simulateModel } from '../../simulate/index.js';
import { type CommonOptions, type ProcessContext, withContext } from '../context.js';
import { describeModel, sizesOf } from '../model-argument.js';
import {
  type DeviceOptions,
  dimOption,
  jsonOption,
  positiveInteger,
  providerOption,
  threadsOption,
  uniformCluster,
  verboseOption,
  wireOption,
} from '../options.js';
import { formatMs, formatRatio, formatTable } from '../text-table.js';

interface SimulateOptions extends DeviceOptions, CommonOptions {
  readonly dim: Dims;
  readonly devices: readonly number[];
  readonly link: readonly string[];
  readonly microBatches: number;
  readonly svg?: string;
}

const HELP = `
Only the graph is read: weights may be missing. The tensors are split for each number of devices, and a step of that split is
simulated: what each rank computes and sends, segment by segment. Links are ${LINK_NAMES}.
Times are typical ones, or this machine's where "tandem plan MODEL --calibrate" has measured them.

Examples:
  $ tandem simulate unet.onnx --devices 1,2,4,8 --link shared-memory,10gbit
  $ tandem simulate models/emoji-sd --devices 1,2,4 --svg curves.svg`;

const MOST_DEVICES = 16;

const counts = (text: string): readonly number[] => {
  const found = text.split(',').map(positiveInteger);
  if (found.some((count) => count > MOST_DEVICES))
    throw new InvalidArgumentError(`Expected numbers of devices up to ${MOST_DEVICES}, such as 1,2,4.`);
  return found;
};

const names = (text: string): readonly string[] => text.split(',').map((name) => name.trim());

const simulationText = ({ points, calibrated, micro_batches }: SimulationReport): string => {
  const links = [...new Set(points.map(({ link }) => link))];
  const devices = [...new Set(points.map((point) => point.devices))];
  const cell = (count: number, link: string): string => {
    const point = points.find((one) => one.devices === count && one.link === link);
    return point ? `${formatMs(point.stepMs)} (${formatRatio(point.speedup)})` : '';
  };
  return [
    `A step of ${micro_batches === 1 ? 'one run' : `${micro_batches} runs, one beside the other`}, by what lies between the devices:`,
    '',
    formatTable(
      [{ title: 'devices', align: 'right' }, ...links.map((title) => ({ title, align: 'right' as const }))],
      devices.map((count) => [String(count), ...links.map((link) => cell(count, link))]),
    ),
    ...(calibrated ? [] : ['', 'Times rest on typical rates; "tandem plan MODEL --calibrate" measures this machine.']),
  ].join('\n');
};

export const addSimulate = (program: Command, outer: ProcessContext): void => {
  program
    .command('simulate <MODEL>')
    .description('Show what a step would take on 1 to 16 devices, over links that need not be there.')
    .option('--devices <n,n>', 'numbers of devices', counts, [1, 2, 4, 8, 16])
    .option('--link <name,name>', 'what lies between them', names, ['1gbit', '10gbit', '25gbit', '100gbit', 'pcie'])
    .option(
      '--micro-batches <n>',
      'runs of the model in a step, such as the two halves of guidance',
      positiveInteger,
      1,
    )
    .option('--svg <file>', 'draw the speedups as curves')
    .addOption(dimOption())
    .addOption(providerOption())
    .addOption(threadsOption())
    .addOption(wireOption())
    .addOption(jsonOption())
    .addOption(verboseOption())
    .addHelpText('after', HELP)
    .action((argument: string, given: SimulateOptions) =>
      withContext(outer, given, async (context) => {
        if (given.svg !== undefined) await checkOutFile(given.svg);
        const { model, options } = await describeModel(argument, given);
        const settings = (count: number) => uniformCluster(count, { ...options, quantize: 'none', split: 'tensor' });
        const { inputs } = await inspect(model.path);
        const dims = await sizesOf(model, inputs, options.dim, settings(1), context.onNotice);
        const { devices, link, microBatches } = options;
        const { onProgress, signal } = context;
        const request = { model, dims, counts: devices, links: link, microBatches, settings, onProgress, signal };
        const report = await simulateModel(request);
        if (options.svg !== undefined)
          await writeFile(options.svg, drawCurves(report, `${model.name}: speedup against one device`));
        context.print(report, () => simulationText(report));
      }),
    );
};
