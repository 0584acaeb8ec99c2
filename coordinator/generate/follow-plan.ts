/**
 * `parallel: auto`: the devices are used as the plan predicts to be fastest. A step of a small model takes longer on two devices than on
 * one, by what they send each other, and guidance may be better divided than tensors; who lists devices should not have to know.
 */
import { createHash } from 'node:crypto';
import { join } from 'node:path';
import { z } from 'zod';
import { recall, remember } from '../../common/remembered.js';
import type { ClusterConfig } from '../config/index.js';
import type { Hooks } from '../hooks.js';
import { fingerprint } from '../shards/fingerprint.js';
import { denoiserRequest, type OpenedModel } from '../shards/request.js';

const choice = z.object({
  /** ms */
  ownMs: z.number(),
  /** Absent where nothing is faster than what was planned. */
  faster: z
    .object({ name: z.enum(['tensor-parallel', 'single-device', 'guidance-batch']), ms: z.number(), rank: z.number() })
    .optional(),
});
type Choice = z.output<typeof choice>;

const decide = async (config: ClusterConfig, opened: OpenedModel, { onProgress }: Hooks): Promise<Choice> => {
  const { plan } = await import('../../partition/index.js');
  const { alternatives, recommended } = await plan(denoiserRequest(config, opened), {
    ...(onProgress ? { onProgress } : {}),
  });
  const ownMs = alternatives[0]?.step_ms ?? 0;
  if (recommended === null) return { ownMs };
  const { name, step_ms, rank = 0 } = recommended;
  return { ownMs, faster: { name, ms: step_ms, rank } };
};

/** A plan takes longer than a warm start, so it is remembered for as long as all that it depends on stays as it is. */
const remembered = async (config: ClusterConfig, opened: OpenedModel, hooks: Hooks): Promise<Choice> => {
  const shards = await fingerprint(denoiserRequest(config, opened), config.shards);
  const key = createHash('sha256')
    .update(JSON.stringify([shards, config.devices]))
    .digest('hex');
  const file = join(config.shards, 'plans', `${key.slice(0, 16)}.json`);
  const known = recall(file, key, choice);
  if (known) return known;
  const found = await decide(config, opened, hooks);
  remember(file, key, found);
  return found;
};

const ms = (value: number): string => `${value.toPrecision(3)} ms`;

const WAYS: Readonly<Record<NonNullable<Choice['faster']>['name'], (config: ClusterConfig, rank: number) => string>> = {
  'single-device': ({ devices }, rank) =>
    `one device of ${devices.length} (${devices[rank]?.provider}, the ${rank + 1}.)`,
  'guidance-batch': ({ devices }) => `${devices.length} devices, each with a part of the batch`,
  'tensor-parallel': ({ devices }) => `${devices.length} devices, each with a part of the tensors`,
};

/** The config with the devices used in that way. */
const applied = (config: ClusterConfig, { name, rank }: NonNullable<Choice['faster']>): ClusterConfig => {
  if (name !== 'single-device') return { ...config, split: name === 'guidance-batch' ? 'batch' : 'tensor' };
  return { ...config, devices: config.devices.filter((_, index) => index === rank) };
};

/**
 * The config as the plan's best alternative has it, told in one sentence; as it is where `parallel` says how, or nothing is faster.
 * @throws TandemError as `plan`
 */
export const followPlan = async (
  config: ClusterConfig,
  opened: OpenedModel,
  hooks: Hooks = {},
): Promise<ClusterConfig> => {
  if (config.parallel !== 'auto' || config.devices.length === 1) return config;
  const { ownMs, faster } = await remembered(config, opened, hooks);
  if (faster === undefined) return config;
  const way = WAYS[faster.name](config, faster.rank);
  hooks.onNotice?.(
    `Using ${way}: the plan predicts ${ms(faster.ms)} a step, against ${ms(ownMs)} for the tensors over all (parallel: auto; "parallel: tensor" in the config uses all).`,
  );
  return applied(config, faster);
};
