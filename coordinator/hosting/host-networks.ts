/** Decides for each network beside the denoiser where it runs, and with which shards. */
import { TandemError } from '../../common/errors.js';
import type { ClusterSettings, DeviceConfig, HostChoice } from '../config/index.js';
import {
  type Declared,
  latentsFor,
  type ModelDirectory,
  type NetworkName,
  type NetworkSizes,
  networkFiles,
  openingOf,
} from '../pipeline/index.js';
import { isOneGroup } from '../shards/mesh-plan.js';
import { denoiserRequest, type OpenedModel, type ShardRequest } from '../shards/request.js';
import {
  type Budget,
  chooseHost,
  type Decision,
  fits,
  type Host,
  type Need,
  NOTHING,
  noRoom,
  roomOf,
  together,
} from './choose-host.js';
import type { Needs } from './needs.js';

/** How the workers run a network. */
export interface WorkerRun {
  /** Ranks of the workers; the index in the list is the rank in the shard directory. */
  readonly members: readonly number[];
  readonly request: ShardRequest;
  /** What its file declares. */
  readonly declared: Declared;
}

/** A network and where it runs. */
export interface HostedNetwork extends Decision {
  readonly name: NetworkName;
  /** How it would be prepared for one device by itself. */
  readonly alone: ShardRequest;
  /** Absent where the coordinator runs it. */
  readonly run?: WorkerRun;
  /** Of each member of its run; absent where no device has a limit, so that nobody asked. */
  readonly needs?: Needs;
}

/** The denoiser of a model directory, opened for a picture. */
export interface HostingTarget extends OpenedModel {
  /** Tokens of the embeddings that it takes. */
  readonly sequence: number;
  /** pixels */
  readonly width: number;
  readonly height: number;
}

/** How models are looked at: from what is remembered of them, or anew. */
export interface Sources {
  declared(path: string): Promise<Declared>;
  needs(request: ShardRequest): Promise<Needs>;
}

/** A network of the model, without a host yet. */
interface Candidate {
  readonly name: NetworkName;
  readonly asked: HostChoice;
  readonly declared: Declared;
  readonly request: Omit<ShardRequest, 'devices'>;
}

/** Whether all networks stay in the coordinator, whatever they need. */
export const staysInCoordinator = ({ placement, devices, ...settings }: ClusterSettings): boolean =>
  !isOneGroup(settings) ||
  (devices.every(({ memoryLimit }) => memoryLimit === undefined) &&
    Object.values(placement).every((choice) => choice === 'auto' || choice === 'coordinator'));

const hasLimits = ({ devices }: ClusterSettings): boolean =>
  devices.some(({ memoryLimit }) => memoryLimit !== undefined);

/** A device as it is when a network has it for itself: what runs whole is the same whatever the device's limit is. */
const wholeDevice = ({ provider, deviceId, threads }: DeviceConfig): DeviceConfig => ({ provider, deviceId, threads });

const unlimited = ({ memoryLimit: _, ...device }: DeviceConfig): DeviceConfig => device;

/**
 * A device that may take what it has room for. The planner counts weights and activations; those of networks that run at other
 * times lie in the same place, so a share of activations comes on top, in proportion to the share of the weights.
 */
const limited = (device: DeviceConfig, budget: Budget | undefined, whole: Need): DeviceConfig => {
  if (budget?.limit === undefined) return device;
  const room = roomOf(budget);
  const share = Math.min(1, room / Math.max(1, whole.weights));
  const activations = Math.min(budget.taken.activations, whole.activations * share);
  return { ...device, memoryLimit: Math.max(1, Math.floor(room + activations)) };
};

const candidatesOf = async (
  settings: ClusterSettings,
  target: HostingTarget,
  directory: ModelDirectory,
  sources: Sources,
): Promise<readonly Candidate[]> => {
  const sizes: NetworkSizes = { sequence: target.sequence, latents: latentsFor(directory, target) };
  const found = [...networkFiles(directory)].map(async ([name, path]): Promise<Candidate> => {
    const declared = await sources.declared(path);
    const { dims, outputs } = openingOf(name, directory, sizes, declared);
    const model = { path, name: `${target.model.name}-${name}` };
    // The denoiser alone is quantized, and split by its batch: an encoder has one prompt at a time.
    const request = {
      model,
      dims,
      outputs,
      wire: settings.wire.dtype,
      quantize: 'none' as const,
      root: settings.shards,
    };
    return { name, asked: settings.placement[name] ?? 'auto', declared, request };
  });
  return Promise.all(found);
};

/** One entry a rank; devices of the same provider need the same. */
const wholeNeeds = async (
  { request }: Candidate,
  devices: readonly DeviceConfig[],
  sources: Sources,
): Promise<Needs> => {
  const byProvider = new Map<string, Needs>();
  for (const device of devices) {
    if (byProvider.has(device.provider)) continue;
    byProvider.set(device.provider, await sources.needs({ ...request, devices: [wholeDevice(device)] }));
  }
  return devices.map(({ provider }) => byProvider.get(provider)?.[0] ?? NOTHING);
};

/** A way to run a network and what it takes; its needs are not known where nothing is weighed. */
interface Weighed {
  readonly run: WorkerRun;
  readonly needs?: Needs;
}

const wholeRun = ({ request, declared }: Candidate, rank: number, devices: readonly DeviceConfig[]): WorkerRun => ({
  members: [rank],
  declared,
  request: { ...request, devices: devices.filter((_, index) => index === rank).map(wholeDevice) },
});

const shardRun = ({ request, declared }: Candidate, devices: readonly DeviceConfig[]): WorkerRun => ({
  members: [...devices.keys()],
  declared,
  request: { ...request, devices },
});

/** By the devices' speeds where that fits what they have left, else by what they have left. */
const weighShards = async (
  candidate: Candidate,
  whole: Needs,
  devices: readonly DeviceConfig[],
  budgets: readonly Budget[],
  sources: Sources,
): Promise<Weighed> => {
  const run = shardRun(candidate, devices.map(unlimited));
  const needs = await sources.needs(run.request);
  const fitAll = (ranks: Needs): boolean => budgets.every((budget, rank) => fits(budget, ranks[rank] ?? NOTHING));
  if (fitAll(needs)) return { run, needs };
  const rooms = devices.map((device, rank) => limited(device, budgets[rank], whole[rank] ?? NOTHING));
  const tight = shardRun(candidate, rooms);
  const tightNeeds = await sources.needs(tight.request).catch((error: unknown) => {
    if (error instanceof TandemError && error.code === 'PLAN_MEMORY') return undefined;
    throw error;
  });
  if (tightNeeds !== undefined && fitAll(tightNeeds)) return { run: tight, needs: tightNeeds };
  throw noRoom(candidate.name, 'split over all devices', needs, budgets);
};

/** What the config places comes first; then the largest, while there is most room. */
const inOrder = (candidates: readonly Candidate[], wholes: ReadonlyMap<Candidate, Needs>): readonly Candidate[] => {
  const size = (candidate: Candidate): number =>
    candidate.asked === 'auto' ? (wholes.get(candidate)?.[0]?.weights ?? 0) : Number.POSITIVE_INFINITY;
  return [...candidates].sort((a, b) => (size(a) === size(b) ? 0 : size(b) - size(a)));
};

const spend = (budgets: readonly Budget[], members: readonly number[], needs: Needs): readonly Budget[] =>
  budgets.map((budget, rank) => {
    const need = needs[members.indexOf(rank)];
    return need === undefined ? budget : { ...budget, taken: together(budget.taken, need) };
  });

/** What the devices have before any network but the denoiser has a host. */
const firstBudgets = async (
  settings: ClusterSettings,
  target: HostingTarget,
  sources: Sources,
): Promise<readonly Budget[]> => {
  const taken = hasLimits(settings) ? await sources.needs(denoiserRequest(settings, target)) : [];
  return settings.devices.map(({ memoryLimit }, rank) => ({
    ...(memoryLimit === undefined ? {} : { limit: memoryLimit }),
    taken: taken[rank] ?? NOTHING,
  }));
};

const weigh = async (
  candidate: Candidate,
  host: Host,
  whole: Needs | undefined,
  devices: readonly DeviceConfig[],
  budgets: readonly Budget[],
  sources: Sources,
): Promise<Weighed | undefined> => {
  switch (host.kind) {
    case 'coordinator':
      return undefined;
    case 'rank': {
      const need = whole?.[host.rank];
      return { run: wholeRun(candidate, host.rank, devices), ...(need ? { needs: [need] } : {}) };
    }
    case 'shard':
      return whole === undefined
        ? { run: shardRun(candidate, devices) }
        : weighShards(candidate, whole, devices, budgets, sources);
    default:
      return host satisfies never;
  }
};

const placeAll = async (
  candidates: readonly Candidate[],
  settings: ClusterSettings,
  target: HostingTarget,
  sources: Sources,
): Promise<readonly HostedNetwork[]> => {
  const { devices } = settings;
  const wholes = new Map<Candidate, Needs>();
  if (hasLimits(settings))
    for (const candidate of candidates) wholes.set(candidate, await wholeNeeds(candidate, devices, sources));
  let budgets = await firstBudgets(settings, target, sources);
  const hosted = new Map<NetworkName, HostedNetwork>();
  for (const candidate of inOrder(candidates, wholes)) {
    const { name, asked } = candidate;
    const whole = wholes.get(candidate);
    const decision = chooseHost(name, asked, whole ?? [], budgets);
    const weighed = await weigh(candidate, decision.host, whole, devices, budgets, sources);
    const alone = { ...candidate.request, devices: devices.slice(0, 1).map(wholeDevice) };
    hosted.set(name, { name, alone, ...decision, ...weighed });
    if (weighed?.needs) budgets = spend(budgets, weighed.run.members, weighed.needs);
  }
  return candidates.flatMap(({ name }) => hosted.get(name) ?? []);
};

/**
 * Places the networks beside the denoiser of a model directory: first what the config says, then the largest, each on the rank
 * with most room.
 * @throws TandemError `PLACEMENT_MEMORY` with figures where there is no room; `MODEL_INPUTS`; as `plan` does
 */
export const hostNetworks = async (
  settings: ClusterSettings,
  target: HostingTarget,
  directory: ModelDirectory,
  sources: Sources,
): Promise<readonly HostedNetwork[]> =>
  placeAll(await candidatesOf(settings, target, directory, sources), settings, target, sources);
