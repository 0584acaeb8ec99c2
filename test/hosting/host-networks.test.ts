/** The networks of a model directory, placed by memory limits. */
import { join } from 'node:path';
import { afterAll, beforeAll, expect, it } from 'vitest';
import { parseClusterConfig } from '#tandem/coordinator/config/index.js';
import { planPicture } from '#tandem/coordinator/generate/picture.js';
import { type HostedNetwork, planHosting, rankNeeds, totalOf } from '#tandem/coordinator/hosting/index.js';
import { type FamilyModel, familyModel } from '../pipeline/family-models.js';
import { fileDirectory } from '../support/directory.js';

const scratch = fileDirectory();
let model: FamilyModel;

beforeAll(async () => {
  model = await familyModel('sd3');
});

afterAll(async () => {
  await model.remove();
});

/** @param limits bytes */
const configFor = (limits: readonly (number | undefined)[], placement = '{}') =>
  parseClusterConfig(
    [
      `model: ${JSON.stringify(model.directory)}`,
      `shards: ${JSON.stringify(join(scratch, 'shards'))}`,
      'devices:',
      ...limits.map(
        (limit) => `  - { provider: cpu, threads: 1${limit === undefined ? '' : `, memory_limit: ${limit}`} }`,
      ),
      `placement: ${placement}`,
      'defaults: { width: 16, height: 16 }',
      '',
    ].join('\n'),
    join(scratch, 'cluster.yaml'),
  );

const hosted = async (config: ReturnType<typeof configFor>): Promise<readonly HostedNetwork[]> =>
  planHosting(config, await planPicture(config));

const hosts = (networks: readonly HostedNetwork[]): Record<string, unknown> =>
  Object.fromEntries(networks.map(({ name, host }) => [name, host]));

it('are not even looked at where no device has a limit and the config names no place', async () => {
  expect(await hosted(configFor([undefined, undefined]))).toEqual([]);
});

it('go where there is room: T5 split where no rank can hold it, the others whole, and all fit', async () => {
  const roomy = configFor([2 ** 30, 2 ** 30]);
  const picture = await planPicture(roomy);
  const all = await hosted(roomy);
  expect(all.every(({ host }) => host.kind === 'rank')).toBe(true);
  const alone = await rankNeeds(roomy, picture, []);
  const [t5] = all.filter(({ name }) => name === 'text_encoder_3');
  const weights = t5?.needs?.[0]?.weights ?? Number.NaN;
  // Room for three quarters of T5 beside the denoiser, so for half of it and something else.
  const limits = alone.map((need) => Math.floor(totalOf(need) + 0.75 * weights));
  const tight = configFor(limits, '{ vae_decoder: coordinator }');
  const networks = await hosted(tight);
  expect(hosts(networks)).toEqual({
    text_encoder: { kind: 'rank', rank: 0 },
    text_encoder_2: { kind: 'rank', rank: 1 },
    text_encoder_3: { kind: 'shard' },
    vae_decoder: { kind: 'coordinator' },
  });
  const [split] = networks.filter(({ name }) => name === 'text_encoder_3');
  expect(split?.reason).toMatch(/^no rank has room for all of it: it takes .* MiB, and at most .* are left$/);
  const needs = await rankNeeds(tight, picture, networks);
  for (const [rank, need] of needs.entries()) expect(totalOf(need)).toBeLessThanOrEqual(limits[rank] ?? 0);
  // Not enough for half of it.
  const few = alone.map((need) => Math.floor(totalOf(need) + 0.3 * weights));
  await expect(hosted(configFor(few, '{ vae_decoder: coordinator }'))).rejects.toMatchObject({
    code: 'PLACEMENT_MEMORY',
    message: expect.stringMatching(/room for text_encoder_3 split over all devices/),
    problems: [
      expect.stringMatching(/^rank 0 has .* left; text_encoder_3 takes .* more for weights and activations$/),
      expect.stringMatching(/^rank 1 has /),
    ],
  });
});

it('are split by room where half of one is too much for a rank', async () => {
  const roomy = configFor([2 ** 30, 2 ** 30]);
  const [t5] = (await hosted(roomy)).filter(({ name }) => name === 'text_encoder_3');
  const weights = t5?.needs?.[0]?.weights ?? Number.NaN;
  const alone = await rankNeeds(roomy, await planPicture(roomy), []);
  const shares = [0.4, 0.8];
  const limits = alone.map((need, rank) => Math.floor(totalOf(need) + (shares[rank] ?? 0) * weights));
  const others = '{ text_encoder: coordinator, text_encoder_2: coordinator, vae_decoder: coordinator }';
  const [split] = (await hosted(configFor(limits, others))).filter(({ name }) => name === 'text_encoder_3');
  expect(split?.host).toEqual({ kind: 'shard' });
  const [less = 0, more = 0] = split?.needs?.map((need) => need.weights) ?? [];
  expect(less).toBeLessThan(0.4 * weights);
  expect(more).toBeGreaterThan(2 * less);
});
