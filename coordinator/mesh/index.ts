/**
 * One model on several groups of workers, each a cluster with its own recovery:
 *
 *     side-by-side   groups with all of the model: every run goes to the one that has least to do
 *     stages         groups with a part each, that pass the work on
 *     mesh           any of these as one, as a cluster is
 *
 *     settings -> shards/mesh-plan (which groups, what each runs) -> prepareMesh (shards) -> startMesh
 */
import { join } from 'node:path';
import type { TensorSpec } from '../../common/tensor.js';
import { DENOISER, type SideNetwork, type Workers } from '../cluster/index.js';
import type { ClusterSettings, DeviceConfig } from '../config/index.js';
import type { Hooks } from '../hooks.js';
import { type PlannedModel, sideNetwork } from '../hosting/index.js';
import { isOneGroup, type MeshGroup, type MeshPlan, planGroups } from '../shards/mesh-plan.js';
import { type PreparedShards, prepareShards } from '../shards/prepare.js';
import {
  closing,
  prepareModel,
  type ReadyModel,
  type Residency,
  startCluster,
  type WorkerSettings,
} from '../start-cluster.js';
import { Mesh, type Way } from './mesh.js';
import { sideBySide } from './side-by-side.js';
import { inStages, type Visit } from './stages.js';

/** A cluster to be started. */
interface ReadyGroup extends Pick<ReadyModel, 'shards' | 'networks'> {
  readonly devices: readonly DeviceConfig[];
}

/** What is on the disk for the workers of all groups. */
export interface ReadyMesh {
  /** Side by side; of each its stages. */
  readonly sides: readonly (readonly ReadyGroup[])[];
  readonly plan: Pick<MeshPlan, 'route' | 'outputs'>;
  /** Of the first group. */
  readonly shards: PreparedShards;
  /** ms spent on the partitioner; 0 where all shards were reused */
  readonly partitionMs: number;
}

/** The shards of a group's stretches: the first are its denoiser's, the others' networks lie beside it. */
const prepareGroup = async (
  { devices, networks: [first, ...others] }: MeshGroup,
  hooks: Hooks,
): Promise<{ readonly group: ReadyGroup; readonly ms: number }> => {
  const shards = await prepareShards(first.request, hooks);
  const networks: SideNetwork[] = [];
  let ms = shards.partitionMs;
  for (const { name, request } of others) {
    const own = await prepareShards(request, hooks);
    networks.push(sideNetwork({ name, members: devices.map((_, rank) => rank) }, own));
    ms += own.partitionMs;
  }
  return { group: { devices, shards, networks }, ms };
};

/**
 * Finds or makes the shards of a model for all groups.
 * @param onDemand whether workers open the networks beside the denoiser for their first step
 * @throws TandemError as `prepareShards` and `planPipeline` do
 */
export const prepareMesh = async (
  settings: ClusterSettings,
  planned: PlannedModel,
  hooks: Hooks,
  onDemand = false,
): Promise<ReadyMesh> => {
  if (isOneGroup(settings)) {
    const ready = await prepareModel(settings, planned, hooks, onDemand);
    const route = [{ stage: 0, network: DENOISER }];
    return { ...ready, sides: [[{ ...ready, devices: settings.devices }]], plan: { route, outputs: [] } };
  }
  const plan = await planGroups(settings, planned, hooks);
  let partitionMs = 0;
  const sides: ReadyGroup[][] = [];
  for (const stages of plan.sides) {
    const side: ReadyGroup[] = [];
    for (const stage of stages) {
      const { group, ms } = await prepareGroup(stage, hooks);
      side.push(group);
      partitionMs += ms;
    }
    sides.push(side);
  }
  const [[first] = []] = sides;
  if (first === undefined) throw new Error('a config has at least one device');
  return { sides, plan, shards: first.shards, partitionMs };
};

/** What a visit is given, and what it makes. */
const profileOf = ({ shards, networks }: ReadyGroup, network: string) => {
  const side = networks.find(({ name }) => name === network);
  const { profiles } = side?.manifest ?? shards.manifest;
  return profiles.find(({ name }) => name === (side?.profile ?? shards.profile.name)) ?? shards.profile;
};

const pipelineOf = (groups: readonly ReadyGroup[], { route, outputs }: ReadyMesh['plan']): Way => {
  const made = new Map<string, TensorSpec>();
  const given = new Map<string, TensorSpec>();
  const visits = route.flatMap(({ stage, network }): readonly Visit[] => {
    const group = groups[stage];
    if (group === undefined) return [];
    const profile = profileOf(group, network);
    for (const input of profile.inputs) if (!made.has(input.name)) given.set(input.name, input);
    for (const output of profile.outputs) made.set(output.name, output);
    return [{ part: stage, network, inputs: profile.inputs.map(({ name }) => name) }];
  });
  const results = outputs.flatMap((name) => made.get(name) ?? []);
  return inStages(visits, [...given.values()], results);
};

/** What the workers read, absolute. */
export const filesOf = ({ sides }: ReadyMesh): readonly string[] => {
  const places = sides
    .flat()
    .flatMap(({ shards, networks }) => [
      { directory: shards.directory, manifest: shards.manifest },
      ...networks.map(({ shardDirectory, manifest }) => ({ directory: shardDirectory, manifest })),
    ]);
  return [
    ...new Set(places.flatMap(({ directory, manifest }) => manifest.files.map(({ path }) => join(directory, path)))),
  ];
};

/** The model's inputs and outputs, as whoever steps it sees them. */
export const networkOf = ({ sides: [groups = []], plan, shards }: ReadyMesh): Pick<Way, 'inputs' | 'outputs'> =>
  groups.length === 1 ? shards.profile : pipelineOf(groups, plan);

export interface StartedMesh {
  readonly workers: Workers;
  /** ms from the first process's start until every worker was ready */
  readonly loadMs: number;
}

/** Each group's workers are found again under a place of their own. */
const residencyOf = (residency: Residency, index: number): Residency =>
  residency.detached === undefined || index === 0
    ? residency
    : { ...residency, detached: { ...residency.detached, directory: `${residency.detached.directory}.${index}` } };

/** All groups at once; none is left behind where one cannot be started. */
const startAll = async (
  groups: readonly ReadyGroup[],
  settings: WorkerSettings,
  hooks: Hooks,
  residency: Residency,
): Promise<readonly Workers[]> => {
  const failed = new AbortController();
  const signal = hooks.signal === undefined ? failed.signal : AbortSignal.any([hooks.signal, failed.signal]);
  const starting = groups.map(async (group, index) => {
    const own = { ...settings, devices: group.devices };
    return (await startCluster(group, own, { ...hooks, signal }, residencyOf(residency, index))).cluster;
  });
  try {
    return await Promise.all(starting);
  } catch (error) {
    failed.abort();
    for (const result of await Promise.allSettled(starting))
      if (result.status === 'fulfilled') await result.value.close();
    throw error;
  }
};

/**
 * Starts the workers of all groups, all at the same time. The caller closes them.
 * @throws TandemError as `startCluster` does; no process is left behind then
 */
export const startMesh = async (
  ready: ReadyMesh,
  settings: WorkerSettings,
  hooks: Hooks,
  residency: Residency = {},
): Promise<StartedMesh> => {
  const start = performance.now();
  const clusters = await startAll(ready.sides.flat(), settings, hooks, residency);
  const sides = ready.sides.map((groups, side): Workers => {
    const own = clusters.slice(side * groups.length, (side + 1) * groups.length);
    const [only] = own;
    return own.length === 1 && only !== undefined ? only : new Mesh(own, pipelineOf(groups, ready.plan));
  });
  const [first] = sides;
  if (first === undefined) throw new Error('a mesh has at least one side');
  const workers = sides.length === 1 ? first : new Mesh(sides, sideBySide(first.network()));
  return { workers, loadMs: performance.now() - start };
};

/** Starts the workers for the time of `work`. */
export const withMesh = async <T>(
  ready: ReadyMesh,
  settings: WorkerSettings,
  hooks: Hooks,
  work: (started: StartedMesh) => Promise<T>,
): Promise<T> => {
  const started = await startMesh(ready, settings, hooks);
  return closing(
    hooks.signal,
    () => started.workers.close(),
    () => work(started),
  );
};
