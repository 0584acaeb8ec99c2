/** What networks need of each rank's memory, by the planner's own figures. */
import { join } from 'node:path';
import { z } from 'zod';
import { recall, remember } from '../../common/remembered.js';
import { TOOL_VERSION } from '../../common/version.js';
import { plan } from '../planner/index.js';
import { fingerprint } from '../shards/fingerprint.js';
import type { ShardRequest } from '../shards/request.js';
import type { Need } from './choose-host.js';

/** By rank. */
export type Needs = readonly Need[];

const schema: z.ZodType<Needs> = z.array(z.object({ weights: z.number(), activations: z.number() }));

/**
 * Plans a network.
 * @throws TandemError as `plan` does; `PLAN_MEMORY` where it does not fit the devices' limits
 */
export const planNeeds = async (request: ShardRequest): Promise<Needs> => {
  const ranks = await plan('ranks', { request });
  return ranks.map(({ weight_bytes, activation_peak_bytes }) => ({
    weights: weight_bytes,
    activations: activation_peak_bytes,
  }));
};

/** As `planNeeds`; what is known from an earlier start is not planned again. */
export const knownNeeds = async (request: ShardRequest): Promise<Needs> => {
  const key = await fingerprint(request, request.root);
  const file = join(request.root, 'needs', `${key}.json`);
  const known = recall(file, TOOL_VERSION, schema);
  if (known !== undefined) return known;
  const needs = await planNeeds(request);
  remember(file, TOOL_VERSION, needs);
  return needs;
};
