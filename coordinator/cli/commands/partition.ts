/** `tandem partition`: writes a shard directory. */
import type { Command } from 'commander';
import { inspect, type Manifest, partition } from '../../../partition/index.js';
import { formatBytes } from '../../config/bytes.js';
import { checkCancelled } from '../../hooks.js';
import { type Dims, requireDims } from '../../shards/dims.js';
import { findDenoiserModel } from '../../shards/model.js';
import { denoiserRequest } from '../../shards/request.js';
import { type CommonOptions, type ProcessContext, withContext } from '../context.js';
import {
  clusterFromOptions,
  type DeviceOptions,
  dimOption,
  jsonOption,
  positiveInteger,
  providerOption,
  quantizeOption,
  requireOptions,
  splitOption,
  threadsOption,
  verboseOption,
  wireOption,
} from '../options.js';
import { formatTable } from '../table.js';

interface PartitionCommandOptions extends DeviceOptions, CommonOptions {
  readonly dim: Dims;
  readonly out: string;
  readonly prepare: boolean;
}

const HELP = `
The directory is written beside and renamed into place, so a run that is stopped leaves nothing half-made.
An earlier shard directory at the same place is replaced. --json prints the manifest's head.

Segments for CPUs are optimised here and now, for this machine's kind of processor and this version of ONNX Runtime, so that
workers have nothing left to do but to map their weights. With --no-prepare they are not, and the directory serves other
machines too; then every worker optimises its segments at every start.

With --quantize int8, linear layers and convolutions get 8-bit weights with a scale for each output, in about a quarter of the
bytes; biases, norms and narrow weights stay as they are. Activations are rounded to 8 bits too, by their range in each step.
Steps are faster on processors with 8-bit dot products (AVX-512 VNNI and the like). "verify --quantize int8" says how far the
result is from the model's: 30 dB of PSNR or more passes.

Examples:
  $ tandem partition unet.onnx --tensor-parallel-size 2 --out shards/unet-2x
  $ tandem partition unet.onnx --tensor-parallel-size 2 --quantize int8 --out shards/unet-2x-int8`;

/** The manifest without its long lists. */
const summarise = (manifest: Manifest, directory: string): object => ({
  directory,
  world_size: manifest.world_size,
  wire_dtype: manifest.wire_dtype,
  quantize: manifest.quantize ?? 'none',
  model: manifest.model,
  ranks: manifest.ranks,
  profiles: manifest.profiles.map(({ name, dims, wire_bytes_per_step, ranks }) => ({
    name,
    dims,
    wire_bytes_per_step,
    segments: ranks[0]?.segments.length ?? 0,
  })),
});

const manifestText = (manifest: Manifest, directory: string): string =>
  [
    `Wrote ${directory}: ${manifest.model.name} on ${manifest.world_size} ranks${manifest.quantize ? `, ${manifest.quantize} weights` : ''}.`,
    '',
    formatTable(
      [
        { title: 'rank', align: 'right' },
        { title: 'folder' },
        { title: 'weights', align: 'right' },
        { title: 'prepared for' },
      ],
      manifest.ranks.map(({ rank, folder, weight_bytes, prepared }) => [
        String(rank),
        folder,
        formatBytes(weight_bytes),
        prepared ? `${prepared.provider}, ONNX Runtime ${prepared.onnxruntime_version}` : 'nothing in particular',
      ]),
    ),
    '',
    ...manifest.profiles.map(
      ({ name, ranks, wire_bytes_per_step }) =>
        `profile ${name}: ${ranks[0]?.segments.length ?? 0} segments a rank, ${formatBytes(wire_bytes_per_step)} sent a step`,
    ),
  ].join('\n');

export const addPartition = (program: Command, outer: ProcessContext): void => {
  program
    .command('partition <MODEL>')
    .description("Split a model and write each rank's weights and segment graphs.")
    .option('--tensor-parallel-size <n>', 'ranks to split over', positiveInteger)
    .option('--out <dir>', 'where to write the shard directory')
    .option('--config <file>', 'cluster config whose devices, speeds and memory limits to split for')
    .option('--no-prepare', 'leave the segments as they are: slower starts, on any machine')
    .addOption(dimOption())
    .addOption(providerOption())
    .addOption(threadsOption())
    .addOption(wireOption())
    .addOption(quantizeOption())
    .addOption(splitOption())
    .addOption(jsonOption())
    .addOption(verboseOption())
    .addHelpText('after', HELP)
    .hook('preAction', requireOptions('out'))
    .action((model: string, options: PartitionCommandOptions, command: Command) =>
      withContext(outer, options, async (context) => {
        const found = findDenoiserModel(model);
        const cluster = await clusterFromOptions(options, command);
        const { inputs } = await inspect(found.path);
        const request = denoiserRequest(cluster, { model: found, dims: requireDims(inputs, options.dim) });
        const { onProgress, signal } = context;
        const manifest = await partition(request, options.out, { optimise: options.prepare, onProgress, signal });
        checkCancelled(context.signal);
        context.print(summarise(manifest, options.out), () => manifestText(manifest, options.out));
      }),
    );
};
