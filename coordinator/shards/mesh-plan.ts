/** Which groups of workers a cluster's settings ask for, and what each group runs: all of the denoiser, or a pipeline's stage of it. */
import { createHash } from 'node:crypto';
import { join } from 'node:path';
import { z } from 'zod';
import { recall, remember } from '../../common/remembered.js';
import type { PipelinePlan } from '../../partition/index.js';
import { ONE_DEVICE } from '../../partition/mesh/shape.js';
import type { ClusterSettings, DeviceConfig } from '../config/index.js';
import type { Hooks } from '../hooks.js';
import { plan } from '../planner/index.js';
import { fingerprint } from './fingerprint.js';
import { denoiserRequest, type OpenedModel, type ShardRequest } from './request.js';

/** A network of a group, and what is asked of the partitioner for it. */
export interface GroupNetwork {
  readonly name: string;
  readonly request: ShardRequest;
}

/** The workers of one cluster. */
export interface MeshGroup {
  readonly devices: readonly DeviceConfig[];
  /** The first is what the group calls its denoiser. */
  readonly networks: readonly [GroupNetwork, ...GroupNetwork[]];
}

/** A stretch of a pipeline. */
export interface Stop {
  readonly stage: number;
  readonly network: string;
}

export interface MeshPlan {
  /** Side by side; of each its stages. */
  readonly sides: readonly (readonly MeshGroup[])[];
  /** In the order in which a run passes the stages; some of them more than once. */
  readonly route: readonly Stop[];
  /** Names of the model's outputs; only known of a pipeline. */
  readonly outputs: readonly string[];
}

const DENOISER = 'denoiser';

const pipelinePlan: z.ZodType<PipelinePlan> = z.object({
  stretches: z.array(z.object({ stage: z.number(), from: z.number(), to: z.number() })).min(1),
  outputs: z.array(z.string()),
});

/** A cut takes longer than a warm start, so it is remembered. */
const knownPipeline = async (request: ShardRequest, stages: number, hooks: Hooks) => {
  const shards = await fingerprint(request, request.root);
  const key = createHash('sha256')
    .update(JSON.stringify([shards, stages]))
    .digest('hex');
  const file = join(request.root, 'plans', `pipeline-${key.slice(0, 16)}.json`);
  const known = recall(file, key, pipelinePlan);
  if (known) return known;
  const found = await plan('pipeline', { request, stages }, hooks);
  remember(file, key, found);
  return found;
};

const parts = <T>(all: readonly T[], count: number): readonly (readonly T[])[] =>
  Array.from({ length: count }, (_, part) => all.slice((part * all.length) / count, ((part + 1) * all.length) / count));

/** Names of a stage's stretches: its first one is the group's denoiser. */
const routeOf = ({ stretches }: PipelinePlan): readonly Stop[] => {
  const visits = new Map<number, number>();
  return stretches.map(({ stage }) => {
    const before = visits.get(stage) ?? 0;
    visits.set(stage, before + 1);
    return { stage, network: before === 0 ? DENOISER : `${DENOISER}/${before + 1}` };
  });
};

const stageGroup = (
  settings: ClusterSettings,
  opened: OpenedModel,
  devices: readonly DeviceConfig[],
  plan: PipelinePlan,
  stage: number,
): MeshGroup => {
  const route = routeOf(plan);
  const networks = plan.stretches.flatMap(({ stage: of, from, to }, place): readonly GroupNetwork[] => {
    if (of !== stage) return [];
    const request = { ...denoiserRequest({ ...settings, devices }, opened), stretch: { from, to } };
    return [{ name: route[place]?.network ?? '', request }];
  });
  const [first, ...others] = networks;
  return first === undefined ? wholeGroup(settings, opened, devices) : { devices, networks: [first, ...others] };
};

const wholeGroup = (settings: ClusterSettings, opened: OpenedModel, devices: readonly DeviceConfig[]): MeshGroup => ({
  devices,
  networks: [{ name: DENOISER, request: denoiserRequest({ ...settings, devices }, opened) }],
});

/** Whether all devices are one group. */
export const isOneGroup = ({ mesh }: Pick<ClusterSettings, 'mesh'>): boolean =>
  mesh === undefined || mesh.guidance * mesh.pipeline * mesh.replicas === 1;

/**
 * The devices are laid out group by group: all stages of the first side, then those of the next.
 * @throws TandemError as `planPipeline`
 */
export const planGroups = async (
  settings: ClusterSettings,
  opened: OpenedModel,
  hooks: Hooks = {},
): Promise<MeshPlan> => {
  const { mesh = ONE_DEVICE, devices } = settings;
  const sides = parts(devices, mesh.guidance * mesh.replicas);
  if (mesh.pipeline === 1) {
    const route = [{ stage: 0, network: DENOISER }];
    return { sides: sides.map((own) => [wholeGroup(settings, opened, own)]), route, outputs: [] };
  }
  const cutFor = { ...denoiserRequest({ ...settings, devices: sides[0] ?? [] }, opened) };
  const plan = await knownPipeline(cutFor, mesh.pipeline, hooks);
  const groups = sides.map((own) =>
    parts(own, mesh.pipeline).map((devices, stage) => stageGroup(settings, opened, devices, plan, stage)),
  );
  return { sides: groups, route: routeOf(plan), outputs: plan.outputs };
};
