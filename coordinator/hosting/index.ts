/**
 * The networks beside the denoiser (text encoders, VAE decoder) on the workers:
 *
 *     choose-host    what a network needs, what devices have left -> where it runs; pure
 *     needs          what networks need, by the planner
 *     host-networks  the model directory's networks, one after the other -> hosts and shard requests
 *
 * Those that no worker runs are sessions of the coordinator's own process (`pipeline/`).
 */
import type { SideNetwork } from '../cluster/index.js';
import type { ClusterConfig } from '../config/index.js';
import type { Network } from '../denoiser.js';
import type { Hooks } from '../hooks.js';
import {
  type NetworkName,
  type OutsideNetwork,
  readModelDirectory,
  type SchedulerName,
  sequenceOf,
} from '../pipeline/index.js';
import { isOneGroup, planGroups } from '../shards/mesh-plan.js';
import { modelFacts } from '../shards/model-facts.js';
import { type PreparedShards, prepareShards } from '../shards/prepare.js';
import { denoiserRequest, type OpenedModel } from '../shards/request.js';
import { NOTHING, together } from './choose-host.js';
import {
  type HostedNetwork,
  type HostingTarget,
  hostNetworks,
  type Sources,
  staysInCoordinator,
} from './host-networks.js';
import { knownNeeds, type Needs } from './needs.js';

export { totalOf } from './choose-host.js';
export type { HostedNetwork } from './host-networks.js';

/** A picture that the denoiser is opened for. */
export interface PlannedPicture extends Omit<HostingTarget, 'sequence'> {
  /** The diffusers-layout directory, absolute. */
  readonly directory: string;
  readonly scheduler?: SchedulerName;
}

const remembered = (root: string): Sources => ({
  declared: (path) => modelFacts(path, root),
  needs: knownNeeds,
});

/**
 * Decides where a config's networks beside the denoiser run. Nothing is read where all stay in the coordinator.
 * @returns none then, else one entry a network
 * @throws TandemError as `hostNetworks`
 */
export const planHosting = async (
  config: ClusterConfig,
  picture: PlannedPicture,
): Promise<readonly HostedNetwork[]> => {
  if (staysInCoordinator(config)) return [];
  const { inputs } = await modelFacts(picture.model.path, config.shards);
  const directory = await readModelDirectory(picture.directory, picture.scheduler);
  const target = { ...picture, sequence: sequenceOf(inputs, picture.dims) };
  return hostNetworks(config, target, directory, remembered(config.shards));
};

/** What workers are started with. */
export interface PlannedModel extends OpenedModel {
  /** The other networks and where they run; none where all stay in the coordinator. */
  readonly networks: readonly HostedNetwork[];
}

export interface PreparedNetworks {
  readonly networks: readonly SideNetwork[];
  /** ms spent on the partitioner */
  readonly partitionMs: number;
}

/** A network's shards as a cluster takes them. */
export const sideNetwork = (
  network: Pick<SideNetwork, 'name' | 'members' | 'onDemand'>,
  { directory, manifest, profile, remake }: PreparedShards,
): SideNetwork => ({
  ...network,
  shardDirectory: directory,
  manifest,
  profile: profile.name,
  ...(remake ? { remake } : {}),
});

/**
 * Finds or makes the shards of the networks that workers run.
 * @param onDemand whether workers open them for their first step
 * @throws TandemError as `prepareShards`
 */
export const prepareNetworks = async (
  hosted: readonly HostedNetwork[],
  onDemand: boolean,
  hooks: Hooks,
): Promise<PreparedNetworks> => {
  const networks: SideNetwork[] = [];
  let partitionMs = 0;
  for (const { name, host, reason, run } of hosted) {
    if (run === undefined) continue;
    const where = host.kind === 'rank' ? `on rank ${host.rank}` : `split over ${run.members.length} ranks`;
    hooks.onNotice?.(`${name} runs ${where}: ${reason}.`);
    const shards = await prepareShards(run.request, hooks);
    networks.push(sideNetwork({ name, members: run.members, onDemand }, shards));
    partitionMs += shards.partitionMs;
  }
  return { networks, partitionMs };
};

/** A rank of a pipeline holds all stretches of its stage. */
const meshNeeds = async (config: ClusterConfig, denoiser: OpenedModel): Promise<Needs> => {
  const { sides } = await planGroups(config, denoiser);
  const needs: Needs[number][] = [];
  for (const { devices, networks } of sides.flat()) {
    let own = devices.map(() => NOTHING);
    for (const { request } of networks) {
      const more = await knownNeeds(request);
      own = own.map((need, rank) => together(need, more[rank] ?? NOTHING));
    }
    needs.push(...own);
  }
  return needs;
};

/**
 * What the denoiser and the networks that workers run need of each rank.
 * @throws TandemError as `plan` does
 */
export const rankNeeds = async (
  config: ClusterConfig,
  denoiser: OpenedModel,
  hosted: readonly HostedNetwork[],
): Promise<Needs> => {
  if (!isOneGroup(config)) return meshNeeds(config, denoiser);
  let needs = await knownNeeds(denoiserRequest(config, denoiser));
  for (const { run } of hosted) {
    if (run === undefined) continue;
    const own = await knownNeeds(run.request);
    needs = needs.map((need, rank) => together(need, own[run.members.indexOf(rank)] ?? NOTHING));
  }
  return needs;
};

/** The networks that workers run, as the pipeline takes them. */
export const remotesOf = (
  hosted: readonly HostedNetwork[],
  networkOf: (name: NetworkName) => Network | Promise<Network>,
): ReadonlyMap<NetworkName, OutsideNetwork> =>
  new Map(
    hosted.flatMap(({ name, run }) =>
      run === undefined ? [] : [[name, { declared: run.declared, network: networkOf(name) }] as const],
    ),
  );
