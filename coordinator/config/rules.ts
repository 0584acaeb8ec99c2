/**
 * What a schema cannot say: rules that span several keys or look at the disk. They read the document as it was written
 * and pass over what the schema refuses, so that one reading reports everything.
 */
import { existsSync } from 'node:fs';
import { join, resolve } from 'node:path';
import type { Provider } from '../../common/onnxruntime.js';
import { PASSES, WAYS } from '../../partition/mesh/shape.js';
import { exportAdvice } from '../export-advice.js';
import { NETWORK_NAMES, type NetworkName } from '../pipeline/index.js';
import { checkHosts } from './host-rules.js';
import type { ConfigProblem } from './problems.js';

const field = (value: unknown, key: string): unknown =>
  typeof value === 'object' && value !== null ? Reflect.get(value, key) : undefined;

/** Devices of all hosts. */
const countDevices = (root: unknown): number | undefined => {
  const [devices, hosts] = [field(root, 'devices'), field(root, 'hosts')];
  if (!Array.isArray(devices)) return undefined;
  if (typeof hosts === 'number') return devices.length * hosts;
  const further = Array.isArray(hosts) ? hosts.map((host: unknown) => field(host, 'devices')) : [];
  return further.reduce<number>((sum, own) => sum + (Array.isArray(own) ? own.length : 0), devices.length);
};

const worldSizeMatches = (root: unknown): readonly ConfigProblem[] => {
  const size = field(root, 'tensor_parallel_size');
  const count = countDevices(root);
  if (!Number.isInteger(size) || count === undefined || count === size) return [];
  const message = `expected ${count}, the number of devices listed; found ${size} (leave the key out, or list as many devices)`;
  return [{ path: ['tensor_parallel_size'], message }];
};

/**
 * Providers whose devices are numbered. The cpu's cores can be shared out among workers, and WebGPU and CoreML always
 * take the system's first device, so only these can be listed twice by mistake.
 */
const NUMBERED: ReadonlySet<unknown> = new Set(['cuda', 'dml'] satisfies Provider[]);

const devicesDiffer = (root: unknown): readonly ConfigProblem[] => {
  const devices = field(root, 'devices');
  if (!Array.isArray(devices)) return [];
  const seen = new Map<string, number>();
  return devices.flatMap((device: unknown, index): readonly ConfigProblem[] => {
    const provider = field(device, 'provider');
    if (!NUMBERED.has(provider)) return [];
    const host = field(device, 'host');
    const where = host === undefined ? '' : ` on ${String(host)}`;
    const name = `${String(provider)}:${String(field(device, 'device_id') ?? 0)}${where}`;
    const first = seen.get(name);
    if (first === undefined) {
      seen.set(name, index);
      return [];
    }
    const message = `expected a device of its own; ${name} is already devices[${first}] (set another device_id)`;
    return [{ path: ['devices', index], message }];
  });
};

const waysAgree = (root: unknown): readonly ConfigProblem[] => {
  const [parallel, split] = [field(root, 'parallel'), field(root, 'split')];
  if (parallel === undefined || parallel === 'auto' || split === undefined || parallel === split) return [];
  const found = typeof parallel === 'object' ? 'groups of devices' : `"${String(parallel)}"`;
  const message = `expected "${String(split)}", as split says; found ${found} (leave one of the two out)`;
  return [{ path: ['parallel'], message }];
};

const meshFits = (root: unknown): readonly ConfigProblem[] => {
  const [parallel, devices] = [field(root, 'parallel'), field(root, 'devices')];
  if (typeof parallel !== 'object' || parallel === null || !Array.isArray(devices)) return [];
  const sizes = WAYS.map((way) => field(parallel, way) ?? 1);
  const product = sizes.reduce((all: number, size) => all * Number(size), 1);
  const problems: ConfigProblem[] = [];
  if (Number.isInteger(product) && product !== devices.length) {
    const message = `expected numbers whose product is ${devices.length}, the number of devices listed; found ${WAYS.map((way, index) => `${way} ${sizes[index]}`).join(' x ')}, which is ${product}`;
    problems.push({ path: ['parallel'], message });
  }
  if (Number(field(parallel, 'guidance')) > PASSES)
    problems.push({
      path: ['parallel', 'guidance'],
      message: `expected 1 or ${PASSES}, as guidance has ${PASSES} passes; found ${field(parallel, 'guidance')}`,
    });
  if (Number(field(parallel, 'tensor')) > 1 && Number(field(parallel, 'tokens')) > 1)
    problems.push({
      path: ['parallel', 'tokens'],
      message: `expected 1 beside tensor ${field(parallel, 'tensor')}, as the ranks of a group split tensors or tokens; found ${field(parallel, 'tokens')}`,
    });
  return [...problems, ...placedInGroups(root, parallel)];
};

/** Text encoders and the VAE decoder run on one cluster's workers, or in the coordinator. */
const placedInGroups = (root: unknown, parallel: object): readonly ConfigProblem[] => {
  const groups = WAYS.filter((way) => way !== 'tensor' && way !== 'tokens');
  if (groups.every((way) => (field(parallel, way) ?? 1) === 1)) return [];
  return NETWORK_NAMES.flatMap((name): readonly ConfigProblem[] => {
    const choice = field(field(root, 'placement'), name);
    if (choice === undefined || choice === 'auto' || choice === 'coordinator') return [];
    const message = `expected "coordinator" beside several groups of devices (parallel); found ${JSON.stringify(choice)}`;
    return [{ path: ['placement', name], message }];
  });
};

const int8RunsOnCpus = (root: unknown): readonly ConfigProblem[] => {
  const devices = field(root, 'devices');
  if (field(root, 'quantize') !== 'int8' || !Array.isArray(devices)) return [];
  const rank = devices.findIndex((device) => field(device, 'provider') !== 'cpu');
  if (rank < 0) return [];
  const provider = String(field(devices[rank], 'provider'));
  const message = `expected "none" unless every device is a cpu; found "int8", and devices[${rank}] is "${provider}"`;
  return [{ path: ['quantize'], message }];
};

/** A coordinator that is merely busy must not look like one that is gone. */
const MIN_KEEP_WARM_S = 10;

const warmWorkersCanBeFound = (root: unknown): readonly ConfigProblem[] => {
  const seconds = field(field(root, 'workers'), 'keep_warm_s');
  if (typeof seconds !== 'number' || seconds <= 0) return [];
  if (seconds < MIN_KEEP_WARM_S) {
    const short = `expected 0 or at least ${MIN_KEEP_WARM_S} seconds; found ${seconds}`;
    return [{ path: ['workers', 'keep_warm_s'], message: short }];
  }
  if (field(field(root, 'wire'), 'transport') !== 'tcp') return [];
  const message = `expected 0 with wire.transport "tcp"; found ${seconds} (workers that outlive their coordinator are found by their socket files: use another transport)`;
  return [{ path: ['workers', 'keep_warm_s'], message }];
};

const modelExists = (root: unknown, directory: string): readonly ConfigProblem[] => {
  const model = field(root, 'model');
  if (typeof model !== 'string' || model === '') return [];
  const path = resolve(directory, model);
  if (existsSync(path)) return [];
  return [
    {
      path: ['model'],
      message: `expected a model directory or .onnx file; found nothing at ${path}${exportAdvice(model)}`,
    },
  ];
};

const rankProblem = (name: NetworkName, choice: unknown, count: number | undefined): readonly ConfigProblem[] => {
  const rank = field(choice, 'rank');
  if (count === undefined || typeof rank !== 'number' || rank < count) return [];
  const message = `expected a rank of the devices listed, 0 to ${count - 1}; found ${rank}`;
  return [{ path: ['placement', name, 'rank'], message }];
};

const missingNetwork = (name: NetworkName, model: unknown, directory: string): readonly ConfigProblem[] => {
  if (typeof model !== 'string' || !existsSync(resolve(directory, model))) return [];
  const path = join(resolve(directory, model), name, 'model.onnx');
  if (existsSync(path)) return [];
  return [
    {
      path: ['placement', name],
      message: `expected a network that the model has; found nothing at ${path}`,
      atKey: name,
    },
  ];
};

/** What is placed must be there, and so must the rank that it is placed on. */
const placedNetworksExist = (root: unknown, directory: string): readonly ConfigProblem[] =>
  NETWORK_NAMES.flatMap((name) => {
    const choice = field(field(root, 'placement'), name);
    if (choice === undefined) return [];
    const model = field(root, 'model');
    return [...rankProblem(name, choice, countDevices(root)), ...missingNetwork(name, model, directory)];
  });

const LOOPBACK = /^(localhost|127(\.\d{1,3}){3}|::1)$/;
const MIN_KEY_LENGTH = 16;

/** A server that other machines can reach must know who asks. */
const serverIsGuarded = (root: unknown): readonly ConfigProblem[] => {
  const server = field(root, 'server');
  const host = field(server, 'host');
  const key = field(server, 'api_key');
  const variable = field(server, 'api_key_env');
  const problems: ConfigProblem[] = [];
  if (typeof host === 'string' && !LOOPBACK.test(host) && key === undefined && variable === undefined) {
    const message = `expected an API key (api_key_env or api_key) beside an address that other machines can reach; found none for "${host}" (127.0.0.1 needs no key)`;
    problems.push({ path: ['server', 'host'], message });
  }
  if (typeof key === 'string' && key.length > 0 && key.length < MIN_KEY_LENGTH) {
    const message = `expected at least ${MIN_KEY_LENGTH} characters; found ${key.length}`;
    problems.push({ path: ['server', 'api_key'], message });
  }
  if (key !== undefined && variable !== undefined) {
    const message = 'expected one of api_key and api_key_env; found both (the variable keeps the key out of the file)';
    problems.push({ path: ['server', 'api_key_env'], message });
  }
  return problems;
};

/**
 * @param root the config as plain values
 * @param directory the config file's own directory, from which its paths start
 */
export const checkRules = (root: unknown, directory: string): readonly ConfigProblem[] => [
  ...worldSizeMatches(root),
  ...devicesDiffer(root),
  ...waysAgree(root),
  ...meshFits(root),
  ...int8RunsOnCpus(root),
  ...warmWorkersCanBeFound(root),
  ...modelExists(root, directory),
  ...placedNetworksExist(root, directory),
  ...serverIsGuarded(root),
  ...checkHosts(root),
];
