/** `tandem partition`: writes a shard directory, or all that a config's `launch` will look for. */
import type { Command } from 'commander';
import { inspect, type Manifest, partition } from '../../../partition/index.js';
import { formatBytes } from '../../config/bytes.js';
import { readClusterConfig } from '../../config/index.js';
import { followPlan } from '../../generate/follow-plan.js';
import { planDenoiser, planModel } from '../../generate/picture.js';
import { checkCancelled } from '../../hooks.js';
import { prepareMesh, type ReadyMesh } from '../../mesh/index.js';
import type { Dims } from '../../shards/dims.js';
import { denoiserRequest } from '../../shards/request.js';
import { type CommandContext, type CommonOptions, type ProcessContext, withContext } from '../context.js';
import { describeModel, isConfigFile, sizesOf } from '../model-argument.js';
import {
  clusterFromOptions,
  type DeviceOptions,
  deviceCount,
  dimOption,
  jsonOption,
  providerOption,
  quantizeOption,
  requireOptions,
  splitOption,
  threadsOption,
  usageError,
  verboseOption,
  wireOption,
} from '../options.js';
import { formatTable } from '../text-table.js';

interface PartitionCommandOptions extends DeviceOptions, CommonOptions {
  readonly dim: Dims;
  readonly out?: string;
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

MODEL may be a cluster config, which names its model and devices. Of a model directory the default picture decides the sizes.
Without --out a config's shards are made where launch and generate look for them, so that neither has to: in the config's
"shards:", those of text encoders and VAE that workers run as well. What is there already is left as it is.

Examples:
  $ tandem partition configs/dual-cpu.yaml
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

/** All that `launch` will want of a config, where it will look for it. */
const prepareAhead = async (file: string, dims: Dims, context: CommandContext): Promise<ReadyMesh> => {
  const asked = await readClusterConfig(file);
  const config = await followPlan(asked, (one) => planDenoiser(one, dims), context);
  return prepareMesh(config, await planModel(config, dims), context);
};

const printReady = ({ shards, sides }: ReadyMesh, context: CommandContext): void => {
  const networks = sides[0]?.[0]?.networks ?? [];
  const { manifest, directory } = shards;
  context.print({ ...summarise(manifest, directory), networks: networks.map(({ name }) => name) }, () =>
    manifestText(manifest, directory),
  );
};

const writeTo = async (
  out: string,
  argument: string,
  given: PartitionCommandOptions,
  command: Command,
  context: CommandContext,
): Promise<void> => {
  const { model, options } = await describeModel(argument, given);
  const cluster = await clusterFromOptions(options, command);
  const { inputs } = await inspect(model.path);
  const dims = await sizesOf(model, inputs, options.dim, cluster, context.onNotice);
  const { onProgress, signal } = context;
  const optimise = options.prepare;
  const request = denoiserRequest(cluster, { model, dims });
  const manifest = await partition(request, out, { optimise, onProgress, signal });
  checkCancelled(context.signal);
  context.print(summarise(manifest, out), () => manifestText(manifest, out));
};

/** A config says where its shards are looked for; anything else has to be told where to write. */
const requireOut = (command: Command): void => {
  if (!isConfigFile(command.args[0] ?? '')) requireOptions('out')(command);
};

export const addPartition = (program: Command, outer: ProcessContext): void => {
  program
    .command('partition <MODEL>')
    .description("Split a model and write each rank's weights and segment graphs.")
    .option('--tensor-parallel-size <n>', 'ranks to split over', deviceCount)
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
    .hook('preAction', requireOut)
    .action((argument: string, given: PartitionCommandOptions, command: Command) =>
      withContext(outer, given, async (context) => {
        if (given.out !== undefined) return writeTo(given.out, argument, given, command, context);
        const { options } = await describeModel(argument, given);
        await clusterFromOptions(options, command);
        if (!given.prepare) throw usageError('Expected --out beside --no-prepare: launch looks for prepared shards.');
        printReady(await prepareAhead(argument, given.dim, context), context);
      }),
    );
};
