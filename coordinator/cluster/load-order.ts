/** What a worker is told to load. */
import type { LoaderChoice } from '../../shard-worker/loader.js';
import type { ToWorker } from '../../shard-worker/protocol.js';
import type { ClusterNetwork, WorkerDevice } from './types.js';
import type { RemoteLink } from './worker-handle.js';

type Load = Extract<ToWorker, { kind: 'load' }>;
type WhatToLoad = Omit<Load, keyof Extract<ToWorker, { kind: 'reset' }> | 'kind'>;

/** @param link to a worker of another host, where shards lie elsewhere */
export const whatToLoad = (
  networks: readonly ClusterNetwork[],
  { provider, deviceId, threads }: WorkerDevice,
  loader: LoaderChoice,
  link: RemoteLink | undefined,
): WhatToLoad => ({
  networks: networks.map(({ name, shardDirectory, profile, members, onDemand }) => ({
    name,
    shard_directory: link?.shardDirectory(name, shardDirectory) ?? shardDirectory,
    profile: profile.name,
    members: [...members],
    on_demand: onDemand,
  })),
  provider,
  device_id: deviceId,
  threads,
  loader,
});
