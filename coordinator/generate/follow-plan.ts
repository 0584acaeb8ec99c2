/**
 * `parallel: auto`: the devices are used as the plan predicts to be best. A step of a small model takes longer on two devices than on
 * one, by what they send each other, and guidance may be better divided than tensors; who lists devices should not have to know.
 */
import { createHash } from 'node:crypto';
import { join } from 'node:path';
import { z } from 'zod';
import { recall, remember } from '../../common/remembered.js';
import type { MeshRequest } from '../../partition/index.js';
import { ONE_DEVICE, shapeText } from '../../partition/mesh/shape.js';
import type { ClusterConfig } from '../config/index.js';
import type { Hooks } from '../hooks.js';
import { plan, type TimedMesh } from '../planner/index.js';
import type { Dims } from '../shards/dims.js';
import { fingerprint } from '../shards/fingerprint.js';
import { denoiserRequest, type OpenedModel, type ShardRequest } from '../shards/request.js';

/** Pictures at once, where pictures per minute are what counts. */
export const CONCURRENCY = 4;

const shape = z.object({
  tensor: z.number(),
  tokens: z.number(),
  guidance: z.number(),
  pipeline: z.number(),
  replicas: z.number(),
});
const choice = z.object({
  /** Of the tensors over all; ms. */
  ownMs: z.number(),
  /** Absent where nothing is clearly better. */
  better: z.object({ ms: z.number(), shape, devices: z.array(z.number()).min(1) }).optional(),
});
type Choice = z.output<typeof choice>;
type Better = NonNullable<Choice['better']>;

/** How a config's denoiser is opened; groups of devices may take the passes of guidance one at a time. */
export type Open = (config: ClusterConfig) => Promise<OpenedModel>;

/** Any shape that takes the passes apart. */
export const APART = { ...ONE_DEVICE, guidance: 2 };

/** All ways to use a request's devices, also those that take the passes of guidance one at a time, where these have sizes of their own. */
export const meshRequest = (together: ShardRequest, apart: Dims): MeshRequest & ShardRequest => {
  const differs = Object.entries(apart).some(([name, size]) => together.dims[name] !== size);
  return { ...together, ...(differs ? { apart } : {}), concurrency: CONCURRENCY };
};

const better = ({ cost, ms }: TimedMesh): Better => ({ ms, shape: cost.shape, devices: [...cost.devices] });

const decide = async ({ aim }: ClusterConfig, request: MeshRequest, hooks: Hooks): Promise<Choice> => {
  const { ownMs, better: found } = await plan('mesh', { request, aim }, hooks);
  return { ownMs, ...(found === undefined ? {} : { better: better(found) }) };
};

/** A plan takes longer than a warm start, so it is remembered for as long as all that it depends on stays as it is. */
const remembered = async (config: ClusterConfig, open: Open, hooks: Hooks): Promise<Choice> => {
  const apart = await open({ ...config, mesh: APART });
  const request = meshRequest(denoiserRequest(config, await open(config)), apart.dims);
  const shards = await fingerprint(request, config.shards);
  const key = createHash('sha256')
    .update(JSON.stringify([shards, config.devices, config.aim, request.apart]))
    .digest('hex');
  const file = join(config.shards, 'plans', `${key.slice(0, 16)}.json`);
  const known = recall(file, key, choice);
  if (known) return known;
  const found = await decide(config, request, hooks);
  remember(file, key, found);
  return found;
};

const ms = (value: number): string => `${value.toPrecision(3)} ms`;

const wayText = ({ devices }: ClusterConfig, found: Better): string => {
  const [rank = 0] = found.devices;
  if (found.devices.length === 1)
    return `one device of ${devices.length} (${devices[rank]?.provider}, the ${rank + 1}.)`;
  return `${devices.length} devices as ${shapeText(found.shape)}`;
};

/**
 * The config as the best way that was planned has it, told in one sentence; as it is where `parallel` says how, or nothing is clearly
 * better.
 * @throws TandemError as `planMeshes` and `open`
 */
export const followPlan = async (config: ClusterConfig, open: Open, hooks: Hooks = {}): Promise<ClusterConfig> => {
  if (config.parallel !== 'auto' || config.devices.length === 1) return config;
  const { ownMs, better: found } = await remembered(config, open, hooks);
  if (found === undefined) return config;
  const aim = config.aim === 'latency' ? '' : ` with ${CONCURRENCY} pictures at once`;
  hooks.onNotice?.(
    `Using ${wayText(config, found)}: the plan predicts ${ms(found.ms)} a step${aim}, against ${ms(ownMs)} for the tensors over all (parallel: auto; "parallel: tensor" in the config uses all).`,
  );
  if (found.devices.length > 1) return { ...config, split: 'tensor', mesh: found.shape };
  return { ...config, devices: config.devices.filter((_, rank) => found.devices.includes(rank)) };
};
