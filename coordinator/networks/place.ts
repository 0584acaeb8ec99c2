/** Decides for each network beside the denoiser where it runs, and with which shards. */
import { TandemError } from '../../partition/errors.js';
import type { ClusterConfig, DeviceConfig, PlacementChoice } from '../config/index.js';
import {
  type Declared,
  latentsFor,
  type ModelDirectory,
  type NetworkName,
  type NetworkSizes,
  networkFiles,
  openingOf,
} from '../pipeline/index.js';
import type { Dims } from '../shards/dims.js';
import type { DenoiserModel } from '../shards/model.js';
import type { ShardRequest } from '../shards/prepare.js';
import { type Budget, choosePlace, type Decision, NOTHING, type Place, roomOf, together } from './choose.js';
import type { Needs } from './needs.js';

/** How the workers run a network. */
export interface WorkerRun {
  /** Ranks of the workers; the place in the list is the rank in the shard directory. */
  readonly members: readonly number[];
  readonly request: ShardRequest;
  /** What its file declares. */
  readonly declared: Declared;
}

/** A network and where it runs. */
export interface PlacedNetwork extends Decision {
  readonly name: NetworkName;
  /** Absent where the coordinator runs it. */
  readonly run?: WorkerRun;
}

/** What of a config decides over placements. */
export type PlacementSettings = Pick<ClusterConfig, 'devices' | 'wire' | 'quantize' | 'shards'> &
  Partial<Pick<ClusterConfig, 'placement' | 'split'>>;

/** The denoiser of a model directory, opened for a picture. */
export interface PlacementTarget {
  readonly model: DenoiserModel;
  readonly dims: Dims;
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

/** A network of the model, not yet placed. */
interface Candidate {
  readonly name: NetworkName;
  readonly asked: PlacementChoice;
  readonly declared: Declared;
  readonly request: Omit<ShardRequest, 'devices'>;
}

/** Whether all networks stay in the coordinator, whatever they need. */
export const staysInCoordinator = ({ placement = {}, devices }: PlacementSettings): boolean =>
  devices.every(({ memoryLimit }) => memoryLimit === undefined) &&
  Object.values(placement).every((choice) => choice === 'auto' || choice === 'coordinator');

const hasLimits = ({ devices }: PlacementSettings): boolean =>
  devices.some(({ memoryLimit }) => memoryLimit !== undefined);

/** A device as it is when a network has it for itself: what is placed whole is the same whatever the device's limit is. */
const wholeDevice = ({ provider, deviceId, threads }: DeviceConfig): DeviceConfig => ({ provider, deviceId, threads });

const limited = (device: DeviceConfig, budget: Budget | undefined): DeviceConfig =>
  budget?.limit === undefined ? device : { ...device, memoryLimit: Math.max(1, Math.floor(roomOf(budget))) };

/** Of the denoiser, as it is prepared for a config. */
export const denoiserRequest = (
  { devices, wire, quantize, shards, split }: PlacementSettings,
  { model, dims }: Pick<PlacementTarget, 'model' | 'dims'>,
): ShardRequest => ({
  model,
  devices,
  dims,
  wireDtype: wire.dtype,
  quantize,
  root: shards,
  ...(split ? { split } : {}),
});

const candidatesOf = async (
  settings: PlacementSettings,
  target: PlacementTarget,
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
      wireDtype: settings.wire.dtype,
      quantize: 'none' as const,
      root: settings.shards,
    };
    return { name, asked: settings.placement?.[name] ?? 'auto', declared, request };
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

const runOf = (
  { request, declared }: Candidate,
  place: Place,
  devices: readonly DeviceConfig[],
  budgets: readonly Budget[],
): WorkerRun | undefined => {
  switch (place.kind) {
    case 'coordinator':
      return undefined;
    case 'rank': {
      const own = devices.filter((_, rank) => rank === place.rank).map(wholeDevice);
      return { members: [place.rank], declared, request: { ...request, devices: own } };
    }
    case 'shard': {
      const all = devices.map((device, rank) => limited(device, budgets[rank]));
      return { members: [...devices.keys()], declared, request: { ...request, devices: all } };
    }
    default:
      return place satisfies never;
  }
};

/** What is placed by hand comes first; then the largest, while there is most room. */
const inOrder = (candidates: readonly Candidate[], wholes: ReadonlyMap<Candidate, Needs>): readonly Candidate[] => {
  const size = (candidate: Candidate): number =>
    candidate.asked === 'auto' ? (wholes.get(candidate)?.[0]?.weights ?? 0) : Number.POSITIVE_INFINITY;
  return [...candidates].sort((a, b) => (size(a) === size(b) ? 0 : size(b) - size(a)));
};

const shardedNeeds = async (name: string, { request }: WorkerRun, sources: Sources): Promise<Needs> => {
  try {
    return await sources.needs(request);
  } catch (cause) {
    if (!(cause instanceof TandemError) || cause.code !== 'PLAN_MEMORY') throw cause;
    throw new TandemError(
      'PLACEMENT_MEMORY',
      `Expected room for ${name}, split over all devices, beside what is placed on them already; there is too little. Raise memory_limit, add devices, or let it run in the coordinator's own process ("placement: { ${name}: coordinator }"):`,
      { problems: cause.problems, cause },
    );
  }
};

const spend = (budgets: readonly Budget[], members: readonly number[], needs: Needs): readonly Budget[] =>
  budgets.map((budget, rank) => {
    const need = needs[members.indexOf(rank)];
    return need === undefined ? budget : { ...budget, taken: together(budget.taken, need) };
  });

const placeAll = async (
  candidates: readonly Candidate[],
  settings: PlacementSettings,
  target: PlacementTarget,
  sources: Sources,
): Promise<readonly PlacedNetwork[]> => {
  const { devices } = settings;
  const weighs = hasLimits(settings);
  const taken = weighs ? await sources.needs(denoiserRequest(settings, target)) : [];
  let budgets: readonly Budget[] = devices.map(({ memoryLimit }, rank) => ({
    ...(memoryLimit === undefined ? {} : { limit: memoryLimit }),
    taken: taken[rank] ?? NOTHING,
  }));
  const wholes = new Map<Candidate, Needs>();
  if (weighs) for (const candidate of candidates) wholes.set(candidate, await wholeNeeds(candidate, devices, sources));
  const placed = new Map<NetworkName, PlacedNetwork>();
  for (const candidate of inOrder(candidates, wholes)) {
    const { name, asked } = candidate;
    const whole = wholes.get(candidate) ?? [];
    const decision = choosePlace(name, asked, whole, budgets);
    const run = runOf(candidate, decision.place, devices, budgets);
    placed.set(name, { name, ...decision, ...(run ? { run } : {}) });
    if (!weighs || run === undefined) continue;
    const needs =
      decision.place.kind === 'rank'
        ? run.members.map((rank) => whole[rank] ?? NOTHING)
        : await shardedNeeds(name, run, sources);
    budgets = spend(budgets, run.members, needs);
  }
  return candidates.flatMap(({ name }) => placed.get(name) ?? []);
};

/**
 * Places the networks beside the denoiser of a model directory: first what the config says, then the largest, each on the rank
 * with most room.
 * @throws TandemError `PLACEMENT_MEMORY` with figures where there is no room; `MODEL_INPUTS`; as `plan` does
 */
export const placeNetworks = async (
  settings: PlacementSettings,
  target: PlacementTarget,
  directory: ModelDirectory,
  sources: Sources,
): Promise<readonly PlacedNetwork[]> =>
  placeAll(await candidatesOf(settings, target, directory, sources), settings, target, sources);
