/** Cluster configs: YAML text in, a checked value with every default filled in and every path absolute out. */
import { readFile } from 'node:fs/promises';
import { availableParallelism } from 'node:os';
import { dirname, join, resolve } from 'node:path';
import { LineCounter, parseDocument } from 'yaml';
import { TandemError } from '../../common/errors.js';

import type { Provider } from '../../common/onnxruntime.js';
import { ownPath } from '../../common/own-files.js';
import { userCache } from '../../common/remembered.js';
import { splitOf } from '../../partition/mesh/shape.js';
import { socketsOf } from '../cluster/transport.js';
import { NETWORK_NAMES } from '../pipeline/index.js';
import { parseBytes } from './bytes.js';
import type { ClusterConfig, DeviceConfig, Hosting, PictureSize, ServerConfig } from './cluster-config.js';
import { allDevices, hostsOf, type PlacedDevice } from './further-hosts.js';
import { launcherGroupIn } from './launcher-group.js';
import { withCalibration, withLink } from './measured-rates.js';
import { describeProblems, problemsOf, type Source } from './problems.js';
import { checkRules } from './rules.js';
import { type ClusterParsed, clusterSchema } from './schema.js';

export type {
  ClusterConfig,
  ClusterSettings,
  DeviceConfig,
  HostChoice,
  Hosting,
  HostsConfig,
  PictureSize,
  Seat,
  ServerConfig,
} from './cluster-config.js';
export { clusterJsonSchema, clusterJsonSchemaText } from './json-schema.js';
export { type LauncherGroup, launcherGroupIn } from './launcher-group.js';
export { type ClusterInput, LIMITS } from './schema.js';

/** @param text `512x512` */
export const parseSize = (text: string): PictureSize => {
  const [width = 0, height = 0] = text.split('x').map(Number);
  return { width, height };
};

/**
 * Where shards go when a config names no place: the user's cache. They are derived data, named by what they were made
 * from, so every config and every clone can share them, and a read-only model directory does no harm.
 */
export const defaultShardsDirectory = (): string => join(userCache(), 'shards');

/** Beside the shards: measurements belong to the machine. */
export const defaultCalibrationFile = (): string => join(userCache(), 'calibration.json');

/** Cores shared out equally among the cpu devices; other providers need one thread to feed their device. */
export const defaultThreads = (devices: readonly { readonly provider: Provider }[], provider: Provider): number =>
  provider === 'cpu'
    ? Math.max(1, Math.floor(availableParallelism() / devices.filter((device) => device.provider === 'cpu').length))
    : 1;

const bytesOf = (size: number | string | undefined): number | undefined =>
  typeof size === 'string' ? parseBytes(size) : size;

const toDevice = (device: PlacedDevice, all: readonly PlacedDevice[]): DeviceConfig => {
  const [limit, buffer] = [bytesOf(device.memory_limit), bytesOf(device.buffer_limit)];
  const neighbours = all.filter(({ host }) => host === device.host);
  return {
    provider: device.provider,
    deviceId: device.device_id,
    threads: device.threads ?? defaultThreads(neighbours, device.provider),
    ...(device.speed === undefined ? {} : { speed: device.speed }),
    ...(limit === undefined ? {} : { memoryLimit: limit }),
    ...(device.host === undefined ? {} : { host: device.host }),
    ...(buffer === undefined ? {} : { bufferLimit: buffer }),
  };
};

const toDefaults = (defaults: ClusterParsed['defaults']): ClusterConfig['defaults'] => ({
  ...(defaults.num_inference_steps === undefined ? {} : { numInferenceSteps: defaults.num_inference_steps }),
  ...(defaults.guidance_scale === undefined ? {} : { guidanceScale: defaults.guidance_scale }),
  ...(defaults.width === undefined ? {} : { width: defaults.width }),
  ...(defaults.height === undefined ? {} : { height: defaults.height }),
  ...(defaults.scheduler === undefined ? {} : { scheduler: defaults.scheduler }),
});

const toHosting = (placement: ClusterParsed['placement']): Hosting =>
  Object.fromEntries(
    NETWORK_NAMES.flatMap((name) => {
      const choice = placement[name];
      return choice === undefined ? [] : [[name, choice]];
    }),
  );

/** The next coordinator finds warm workers by their socket files, which only ipc has. */
const DEFAULT_KEEP_WARM_S = { ipc: 600, tcp: 0 } as const;

const toWorkers = ({ workers, wire }: ClusterParsed): ClusterConfig['workers'] => ({
  keepWarmMs: (workers.keep_warm_s ?? DEFAULT_KEEP_WARM_S[socketsOf(wire.transport)]) * 1000,
  maxRestarts: workers.max_restarts,
});

const toServer = (server: ClusterParsed['server'], file: string): ServerConfig => ({
  host: server.host,
  port: server.port,
  ...(server.api_key === undefined ? {} : { apiKey: server.api_key }),
  ...(server.api_key_env === undefined ? {} : { apiKeyVariable: server.api_key_env }),
  maxRunning: server.max_running,
  maxQueue: server.max_queue,
  images: server.images === undefined ? join(userCache(), 'images') : resolve(dirname(file), server.images),
  trustProxy: server.trust_proxy,
  drainMs: server.drain_s * 1000,
});

const BYTES_PER_MS_IN_GBIT = 1e9 / 8 / 1000;

const toWire = ({ dtype, transport, link }: ClusterParsed['wire']): ClusterConfig['wire'] => ({
  dtype,
  transport,
  ...(link && { link: { wireBytesPerMs: link.gbit_per_s * BYTES_PER_MS_IN_GBIT, latencyMs: link.latency_ms } }),
});

/** Whoever has keys for further hosts and says nothing of their number is started by something that knows it. */
const asLaunched = (parsed: ClusterParsed): ClusterParsed => {
  const isOpen = parsed.hosts === undefined && parsed.devices.every(({ host }) => host === undefined);
  const { size } = isOpen && parsed.join.keys !== undefined ? launcherGroupIn(process.env) : {};
  return size === undefined ? parsed : { ...parsed, hosts: size };
};

/** What all devices divide, or those of a group, and whether the plan may have it otherwise. */
const toParallel = ({ parallel, split }: ClusterParsed): Pick<ClusterConfig, 'split' | 'parallel' | 'mesh'> => {
  if (typeof parallel === 'object') return { split: splitOf(parallel), parallel: splitOf(parallel), mesh: parallel };
  const said = parallel === undefined || parallel === 'auto' ? split : parallel;
  return { split: said ?? 'tensor', parallel: parallel ?? split ?? 'auto' };
};

const toConfig = (parsed: ClusterParsed, file: string): ClusterConfig => ({
  ...hostsOf(parsed, file),
  file: resolve(file),
  model: resolve(dirname(file), parsed.model),
  devices: allDevices(parsed).map((device, _, all) => toDevice(device, all)),
  wire: toWire(parsed.wire),
  quantize: parsed.quantize,
  ...toParallel(parsed),
  aim: parsed.aim,
  placement: toHosting(parsed.placement),
  loader: parsed.loader,
  loadParts: parsed.load_parts,
  shards: parsed.shards === undefined ? defaultShardsDirectory() : resolve(dirname(file), parsed.shards),
  calibration: parsed.calibration === undefined ? defaultCalibrationFile() : resolve(dirname(file), parsed.calibration),
  timeouts: {
    startMs: parsed.timeouts.start_s * 1000,
    loadMs: parsed.timeouts.load_s * 1000,
    stepMs: parsed.timeouts.step_s * 1000,
    heartbeatMs: parsed.timeouts.heartbeat_s * 1000,
  },
  workers: toWorkers(parsed),
  defaults: toDefaults(parsed.defaults),
  sizes: parsed.sizes.map(parseSize),
  residentSizes: parsed.resident_sizes,
  server: toServer(parsed.server, file),
});

const refuse = (file: string, problems: readonly string[]): never => {
  const count = problems.length === 1 ? 'a problem' : `${problems.length} problems`;
  throw new TandemError('CONFIG_INVALID', `The cluster config ${file} has ${count}:`, { problems });
};

const parseYaml = (text: string, file: string): Source => {
  const lines = new LineCounter();
  const document = parseDocument(text, { lineCounter: lines, prettyErrors: false, stringKeys: true });
  if (document.errors.length > 0) {
    const problems = document.errors.map((error) => {
      const { line, col } = lines.linePos(error.pos[0]);
      return `${file}:${line}:${col}: not valid YAML: ${error.message}`;
    });
    refuse(file, problems);
  }
  return { file, document, lines };
};

/** How often an alias may stand for what it names: enough for every device, too little to fill memory. */
const MAX_ALIASES = 100;

/** Plain values of a document; a tree, so that whoever looks at it comes to an end. */
const plainValue = ({ document }: Source, file: string): unknown => {
  try {
    const root: unknown = document.toJS({ maxAliasCount: MAX_ALIASES });
    JSON.stringify(root);
    return root;
  } catch (error) {
    const found = error instanceof Error ? (error.message.split('\n')[0] ?? '') : String(error);
    return refuse(file, [`${file}: expected aliases (*name) that name something finite; found: ${found}`]);
  }
};

/**
 * Checks a config's text.
 * @param file its path as the user named it: messages repeat it, and relative paths inside start from its directory
 * @throws TandemError `CONFIG_INVALID` with every problem, each as `file:line:column key.path: expected ...; found ...`
 */
export const parseClusterConfig = (text: string, file: string): ClusterConfig => {
  const source = parseYaml(text, file);
  const root = plainValue(source, file);
  const parsed = clusterSchema.safeParse(root);
  const problems = [
    ...(parsed.success ? [] : parsed.error.issues.flatMap((issue) => problemsOf(issue, root))),
    ...checkRules(root, dirname(resolve(file))),
  ];
  if (!parsed.success || problems.length > 0) return refuse(file, describeProblems(source, problems));
  return toConfig(asLaunched(parsed.data), file);
};

/**
 * Reads and checks a config file, and gives its devices the rates that were measured.
 * @throws TandemError `CONFIG_MISSING` where it cannot be read, `CONFIG_INVALID` as `parseClusterConfig`; as `withCalibration` does
 */
export const readClusterConfig = async (file: string): Promise<ClusterConfig> => {
  const config = await withCalibration(await readUncalibratedConfig(file));
  return config.wire.link === undefined ? config : withLink(config, config.wire.link);
};

const WHY_NO_CONFIG: Readonly<Record<string, string>> = {
  ENOENT: 'there is no such file',
  ENOTDIR: 'part of the path is a file',
  EISDIR: 'a directory is there',
  EACCES: 'this user may not read it',
};

const noConfig = (file: string, why: string, cause?: Error): TandemError => {
  const advice = `"tandem init MODEL --out cluster.yaml" writes one for a model, and ${ownPath('configs')} holds some that run as they are`;
  return new TandemError('CONFIG_MISSING', `Expected a cluster config at ${file}; ${why}. ${advice}.`, { cause });
};

/**
 * As `readClusterConfig`, without rates: for those who are about to measure them.
 * @throws TandemError `CONFIG_MISSING`, `CONFIG_INVALID`
 */
export const readUncalibratedConfig = async (file: string): Promise<ClusterConfig> => {
  if (/\.onnx$/i.test(file)) throw noConfig(file, 'that is a model');
  const text = await readFile(file, 'utf8').catch((cause: NodeJS.ErrnoException) => {
    throw noConfig(file, WHY_NO_CONFIG[cause.code ?? ''] ?? cause.message, cause);
  });
  return parseClusterConfig(text, file);
};
