/** Workers that run other networks beside the denoiser. */
import { expect, it } from 'vitest';
import type { Cluster, SideNetwork } from '#tandem/coordinator/cluster/index.js';
import { readManifest } from '#tandem/partition/write/read-manifest.js';
import { errorOf, fixture, iterations, launchFixture, mlpInput, until, withCluster } from './helpers.js';

const side = async (name: string, shards: string, rest: Partial<SideNetwork> = {}): Promise<SideNetwork> => {
  const manifest = await readManifest(fixture(shards));
  const members = manifest.ranks.map(({ rank }) => rank);
  return { name, shardDirectory: fixture(shards), manifest, profile: 'static', members, ...rest };
};

const digests = async (cluster: Cluster, network?: string): Promise<readonly string[]> => {
  const { ranks } = await cluster.step([mlpInput()], network === undefined ? {} : { network });
  return ranks.map(({ outputs_sha256 }) => outputs_sha256);
};

const aloneDigests = (name: string): Promise<readonly string[]> => withCluster(name, (cluster) => digests(cluster));

const weights = (cluster: Cluster): readonly number[] => cluster.workers.map(({ weight_bytes }) => weight_bytes);

it('runs a network on some of the workers, in whatever order, in turns with the denoiser', async () => {
  const [first = ''] = await aloneDigests('mlp-2');
  const denoiser = await aloneDigests('mlp-3');
  const alone = await withCluster('mlp-3', async (cluster) => weights(cluster));
  for (const onDemand of [false, true]) {
    const networks = [await side('encoder', 'mlp-2', { members: [2, 0], onDemand })];
    await withCluster(
      'mlp-3',
      async (cluster) => {
        for (let turn = 0; turn < 2; turn++) {
          const { ranks } = await cluster.step([mlpInput()], { network: 'encoder' });
          expect(ranks.map(({ rank, outputs_sha256 }) => [rank, outputs_sha256])).toEqual([
            [0, first],
            [2, first],
          ]);
          expect(await digests(cluster)).toEqual(denoiser);
        }
        expect(cluster.lastStep).toHaveLength(3);
        const [more0, more1, more2] = weights(cluster).map((bytes, rank) => bytes - (alone[rank] ?? 0));
        expect([more0 ?? 0, more2 ?? 0].every((bytes) => bytes > 0)).toBe(true);
        expect(more1).toBe(0);
        expect(cluster.network('encoder').inputs.map(({ name }) => name)).toEqual(['x']);
      },
      { networks },
    );
  }
});

it('repeats the step of a network that lost a worker, with the same result', async () => {
  const inputs = iterations(50_000);
  const undisturbed = await withCluster('slow', async (cluster) => cluster.step([inputs]));
  const networks = [await side('encoder', 'slow')];
  await withCluster(
    'mlp-2',
    async (cluster) => {
      const before = await digests(cluster);
      const stepping = cluster.step([inputs], { network: 'encoder' });
      setTimeout(() => process.kill(cluster.workers[1]?.pid ?? 0, 'SIGKILL'), 150);
      const { ranks } = await stepping;
      expect(ranks.map(({ outputs_sha256 }) => outputs_sha256)).toEqual(
        undisturbed.ranks.map(({ outputs_sha256 }) => outputs_sha256),
      );
      expect(cluster.restarts).toBe(1);
      await until(() => cluster.state === 'ready');
      expect(await digests(cluster)).toEqual(before);
    },
    { networks, restart: { maxAttempts: 3, backoffMs: 20, capMs: 200 } },
  );
});

it('refuses networks that it does not run, and shards for another number of ranks', async () => {
  await withCluster('mlp-2', async (cluster) => {
    const error = await errorOf(cluster.step([mlpInput()], { network: 'vae_decoder' }));
    expect(error.code).toBe('CLUSTER_NETWORK');
    expect(error.message).toMatch(/\(denoiser\); found "vae_decoder"/);
    expect(() => cluster.network('vae_decoder')).toThrow(/found "vae_decoder"/);
  });
  const networks = [await side('encoder', 'mlp-3', { members: [0, 1] })];
  expect((await errorOf(launchFixture('mlp-2', { networks }))).code).toBe('SHARD_WORLD_SIZE');
});
