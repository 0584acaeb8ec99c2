/**
 * The slowest link of a cluster from one start to the next. A measurement is never the same twice, and shards are named by what they
 * were planned with: a link that is about what it was keeps the figures that it had.
 */
import { createHash } from 'node:crypto';
import { join } from 'node:path';
import { z } from 'zod';
import { recall, remember, userCache } from '../../common/remembered.js';
import type { LinkRates } from '../../partition/plan/rates.js';

const rates = z.object({ wireBytesPerMs: z.number().positive(), latencyMs: z.number().positive() });

/** Less than this, as a factor, is the measurement's own: nobody would plan otherwise for it. */
const SAME = 2;

const isNear = (a: number, b: number): boolean => Math.max(a, b) <= SAME * Math.min(a, b);

/** Below this a link is not what takes the time; ms. */
const LEAST_MS = 0.5;

const isSame = (a: LinkRates, b: LinkRates): boolean =>
  isNear(a.wireBytesPerMs, b.wireBytesPerMs) &&
  isNear(Math.max(a.latencyMs, LEAST_MS), Math.max(b.latencyMs, LEAST_MS));

/**
 * What to plan with, for these hosts.
 * @param found as measured now
 */
export const steadyLink = (hosts: readonly string[], found: LinkRates): LinkRates => {
  const key = createHash('sha256').update(JSON.stringify(hosts)).digest('hex');
  const file = join(userCache(), 'links', `${key.slice(0, 16)}.json`);
  const known = recall(file, key, rates);
  if (known !== undefined && isSame(known, found)) return known;
  remember(file, key, found);
  return found;
};
