/** How options' texts become values; a text that is none is a usage error. */
import { resolve } from 'node:path';
import { type Command, InvalidArgumentError, Option } from 'commander';
import { TandemError } from '../../common/errors.js';
import { PROVIDERS, type Provider } from '../../common/onnxruntime.js';
import type { Split } from '../../partition/index.js';
import { type MeshShape, ONE_DEVICE, PASSES, WAYS } from '../../partition/mesh/shape.js';
import { QUANTIZE, type Quantize, WIRE_DTYPES, type WireDtype } from '../../partition/write/manifest.js';
import { DEFAULT_TIMEOUTS } from '../cluster/index.js';
import {
  type ClusterSettings,
  type DeviceConfig,
  defaultCalibrationFile,
  defaultShardsDirectory,
  defaultThreads,
  LIMITS,
  readUncalibratedConfig,
} from '../config/index.js';
import { withCalibration } from '../config/measured-rates.js';
import type { Dims } from '../shards/dims.js';

export const usageError = (message: string): TandemError => new TandemError('USAGE', message);

/**
 * Checks that options were given, before the command's action. Commander's own check comes before it looks for unknown options, so that
 * it would answer `--promt` with "required option" instead of "did you mean --prompt".
 * @param names as in `options.config`
 */
export const requireOptions =
  (...names: readonly string[]) =>
  (command: Command): void => {
    const missing = command.options.find(
      (option) =>
        names.includes(option.attributeName()) && command.getOptionValue(option.attributeName()) === undefined,
    );
    if (missing) command.error(`error: required option '${missing.flags}' not specified`);
  };

const within =
  (kind: string, isKind: (value: number) => boolean, most: number) =>
  (least: number, limit = most) =>
  (text: string): number => {
    const value = Number(text);
    if (text.trim() !== '' && isKind(value) && value >= least && value <= limit) return value;
    // A limit that is the number type's own is of interest to nobody who keeps it.
    const range = limit === most && !(value > most) ? `${least} or more` : `from ${least} to ${limit}`;
    throw new InvalidArgumentError(`Expected ${kind}, ${range}.`);
  };

const wholeNumber = within('a whole number', Number.isInteger, Number.MAX_SAFE_INTEGER);

export const positiveInteger = wholeNumber(1);
export const nonNegativeInteger = wholeNumber(0);
export const deviceCount = wholeNumber(1, LIMITS.devices);
export const stepCount = wholeNumber(1, LIMITS.steps);

const number = within('a number', Number.isFinite, Number.MAX_VALUE);

export const nonNegativeNumber = number(0);
export const guidanceScale = number(0, LIMITS.guidance);

/** `1,2` */
export const deviceCounts = (text: string): readonly number[] => text.split(',').map(deviceCount);

/** `NAME=SIZE`, repeated; also `NAME=SIZE,NAME=SIZE`. */
export const addDim = (text: string, dims: Dims = {}): Dims => {
  const entries = text.split(',').map((part): [string, number] => {
    const at = part.lastIndexOf('=');
    if (at < 1) throw new InvalidArgumentError('Expected NAME=SIZE, such as --dim batch=2.');
    return [part.slice(0, at).trim(), positiveInteger(part.slice(at + 1))];
  });
  return { ...dims, ...Object.fromEntries(entries) };
};

/** `--config`, repeated. */
export const addText = (text: string, all: readonly string[] = []): readonly string[] => [...all, text];

export const dimOption = (): Option =>
  new Option('--dim <NAME=SIZE>', 'size that the model leaves open, such as height=64; repeat it for each')
    .argParser(addDim)
    .default({}, 'none');

export const providerOption = (): Option =>
  new Option('--provider <name>', 'ONNX Runtime execution provider of every rank')
    .choices([...PROVIDERS])
    .default('cpu');

export const threadsOption = (): Option =>
  new Option('--threads <n>', 'threads per cpu worker (default: the cores, shared equally)').argParser(
    wholeNumber(1, LIMITS.threads),
  );

export const wireOption = (): Option =>
  new Option('--wire-dtype <type>', 'element type of activations between workers').choices(WIRE_DTYPES).default('fp32');

export const quantizeOption = (): Option =>
  new Option('--quantize <type>', 'weights of linear layers and convolutions; int8 needs cpu devices')
    .choices([...QUANTIZE])
    .default('none');

export const splitOption = (): Option =>
  new Option(
    '--split <what>',
    "tensor: a part of the weights per rank; batch: all of them, and a part of the batch's work; tokens: all of them, and a part of the tokens or rows",
  )
    .choices(['tensor', 'batch', 'tokens'])
    .default('tensor');

/** `--parallel pipeline=2,tensor=2`, repeated. */
const addShape = (text: string, all: readonly MeshShape[] = []): readonly MeshShape[] => {
  const entries = text.split(',').map((part) => {
    const [name = '', size = ''] = part.split('=').map((word) => word.trim());
    if (!WAYS.some((way) => way === name))
      throw new InvalidArgumentError(`Expected WAY=N with one of ${WAYS.join(', ')}, such as --parallel pipeline=2.`);
    return [name, deviceCount(size)] as const;
  });
  const shape = { ...ONE_DEVICE, ...Object.fromEntries(entries) };
  if (shape.tensor > 1 && shape.tokens > 1)
    throw new InvalidArgumentError('Expected tensor or tokens: the ranks of a group split the one or the other.');
  if (shape.guidance > PASSES)
    throw new InvalidArgumentError(`Expected guidance of 1 or ${PASSES}, as many as it has passes.`);
  return [...all, shape];
};

export const parallelOption = (): Option =>
  new Option('--parallel <way=n,...>', 'with a MODEL: groups of devices to measure; repeat it for each').argParser(
    addShape,
  );

export const shardsOption = (): Option =>
  new Option('--shards <dir>', "where prepared shard directories are kept (default: the user's cache)");

export const jsonOption = (): Option => new Option('--json', 'print the result as JSON, alone on standard output');

export const traceOption = (): Option =>
  new Option('--trace <file>', "write what every rank did when, in Chrome's trace format (ui.perfetto.dev opens it)");

export const verboseOption = (): Option => new Option('--verbose', 'log what happens on standard error, as JSON lines');

/** The options that describe devices without a config file. */
export interface DeviceOptions {
  readonly tensorParallelSize?: number;
  readonly provider: Provider;
  readonly threads?: number;
  readonly wireDtype: WireDtype;
  readonly quantize: Quantize;
  readonly split: Split;
  readonly config?: string;
  readonly shards?: string;
}

/** Only these choose a device by its number; the others always take the first. */
const isNumbered = (provider: Provider): boolean => provider === 'cuda' || provider === 'dml';

/** `worldSize` devices of one provider, numbered from 0 where that provider numbers them. */
export const uniformDevices = (worldSize: number, provider: Provider, threads?: number): readonly DeviceConfig[] => {
  const kinds = Array.from({ length: worldSize }, () => ({ provider }));
  return kinds.map((_, rank) => ({
    provider,
    deviceId: isNumbered(provider) ? rank : 0,
    threads: threads ?? defaultThreads(kinds, provider),
  }));
};

export const uniformCluster = (
  worldSize: number,
  options: Pick<DeviceOptions, 'provider' | 'threads' | 'wireDtype' | 'quantize' | 'split' | 'shards'>,
): ClusterSettings => ({
  devices: uniformDevices(worldSize, options.provider, options.threads),
  wire: { dtype: options.wireDtype, transport: 'auto' },
  quantize: options.quantize,
  shards: options.shards === undefined ? defaultShardsDirectory() : resolve(options.shards),
  split: options.split,
  placement: {},
  loader: 'auto',
  calibration: defaultCalibrationFile(),
  timeouts: DEFAULT_TIMEOUTS,
});

/** Options that a config file decides; on the command line beside one they are an error, not ignored. */
const CONFIG_DECIDES = ['provider', 'threads', 'wireDtype', 'quantize', 'split'] as const;

export const refuseMixed = (command: Command): void => {
  for (const name of CONFIG_DECIDES) {
    if (command.getOptionValueSource(name) === 'cli') {
      const flag = name.replace(/[A-Z]/g, (letter) => `-${letter.toLowerCase()}`);
      throw usageError(`--${flag} and --config cannot both be given: the config says it.`);
    }
  }
};

/**
 * The cluster that a command's options describe: a config's, or `--tensor-parallel-size` devices of one provider.
 * @throws TandemError `USAGE` where both or neither say how many devices there are
 */
export const uncalibratedFromOptions = async (options: DeviceOptions, command: Command): Promise<ClusterSettings> => {
  if (options.config === undefined) {
    if (options.tensorParallelSize === undefined) {
      throw usageError('Expected --tensor-parallel-size N (how many devices share the model) or --config FILE.');
    }
    return uniformCluster(options.tensorParallelSize, options);
  }
  refuseMixed(command);
  const config = await readUncalibratedConfig(options.config);
  if (options.tensorParallelSize !== undefined && options.tensorParallelSize !== config.devices.length) {
    const message = `Expected --tensor-parallel-size ${config.devices.length}, the number of devices in ${options.config}; found ${options.tensorParallelSize}.`;
    throw usageError(message);
  }
  return options.shards === undefined ? config : { ...config, shards: resolve(options.shards) };
};

/**
 * As `uncalibratedFromOptions`, with the rates that were measured.
 * @throws TandemError also as `withCalibration` does
 */
export const clusterFromOptions = async (options: DeviceOptions, command: Command): Promise<ClusterSettings> =>
  withCalibration(await uncalibratedFromOptions(options, command));
