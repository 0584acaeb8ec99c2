/**
 * Runs a shard directory on the worker's own `Rank`s, over real sockets: files, graphs, inputs and outputs are checked as in a
 * worker. Only the processes around them are missing, whose starts would be most of these tests' time.
 */
import { join } from 'node:path';
import type { HostTensor } from '#tandem/common/tensor.js';
import type { Manifest } from '#tandem/partition/write/manifest.js';
import { Rank } from '#tandem/shard-worker/rank.js';
import { ExchangeInbox } from '#tandem/shard-worker/transport.js';
import { withDirectory } from '../support/directory.js';

type Tensors = Readonly<Record<string, HostTensor>>;

const WAIT_MS = 60_000;
const NETWORK = 'denoiser';

const profileName = ({ profiles }: Manifest): string => {
  const [profile] = profiles;
  if (profile && profiles.length === 1) return profile.name;
  throw new Error(`Expected one profile, found ${profiles.length}.`);
};

/** All of them, or what the first that failed says once none is at work any more. */
const allSettled = async <T>(promises: readonly Promise<T>[]): Promise<readonly T[]> => {
  const ended = await Promise.allSettled(promises);
  const failed = ended.find((result) => result.status === 'rejected');
  if (failed) throw failed.reason;
  return ended.flatMap((result) => (result.status === 'fulfilled' ? [result.value] : []));
};

const loadOrder = (directory: string, manifest: Manifest, peers: readonly string[]) => ({
  kind: 'load' as const,
  networks: [
    {
      name: NETWORK,
      shard_directory: directory,
      profile: profileName(manifest),
      members: manifest.ranks.map(({ rank }) => rank),
    },
  ],
  provider: 'cpu' as const,
  device_id: 0,
  threads: 1,
  peers: [...peers],
  exchange_timeout_ms: WAIT_MS,
});

/** @returns the model's outputs as each rank has them */
export const runShards = async (directory: string, manifest: Manifest, inputs: Tensors): Promise<readonly Tensors[]> =>
  withDirectory(async (sockets) => {
    const peers = manifest.ranks.map(({ rank }) => `ipc://${join(sockets, `${rank}.sock`)}`);
    const ranks: Rank[] = [];
    try {
      for (const [rank, endpoint] of peers.entries())
        ranks.push(new Rank(rank, { inbox: await ExchangeInbox.listen(endpoint) }, () => undefined));
      const order = loadOrder(directory, manifest, peers);
      await allSettled(ranks.map((rank) => rank.load(order)));
      const step = {
        kind: 'step' as const,
        id: 1,
        network: NETWORK,
        micro_batches: [{ ...inputs }],
        want_outputs: true,
      };
      const results = await allSettled(ranks.map((rank) => rank.step(step)));
      return results.map(({ outputs }) => outputs[0] ?? {});
    } finally {
      await Promise.all(ranks.map((rank) => rank.close(WAIT_MS)));
    }
  });
