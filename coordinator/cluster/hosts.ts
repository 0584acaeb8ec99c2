/** What a cluster needs of further hosts: `hosts/` has them, once they have joined. */
import { createHash } from 'node:crypto';
import { TOOL_VERSION } from '../../common/version.js';
import type { Manifest } from '../../partition/write/manifest.js';
import type { LoaderChoice } from '../../shard-worker/loader.js';
import { PROTOCOL_VERSION } from '../../shard-worker/protocol.js';
import type { ClusterNetwork, WorkerDevice } from './types.js';
import type { WorkerHandle } from './worker-handle.js';

/** A network that a worker of another host has a part in. */
export interface RemoteNetwork {
  readonly name: string;
  /** Where its shards lie on this host, absolute. */
  readonly directory: string;
  readonly manifest: Manifest;
  readonly manifestSha256: string;
  /** The worker's rank in the shard directory. */
  readonly place: number;
}

export interface RemoteOrder {
  readonly host: string;
  readonly rank: number;
  readonly id: string;
  readonly networks: readonly RemoteNetwork[];
  readonly sharesMemory: boolean;
  /** How long its host keeps it for the next coordinator, in ms. */
  readonly keepWarmMs: number;
  /** Two workers of the same identity can stand for each other. */
  readonly identity: string;
}

export interface HostPool {
  /** This host's address, as the others reach it. */
  readonly address: string;
  /** Whether workers of that host can share memory among themselves. */
  sharesMemory(host: string): boolean;
  /** Starts a worker on a host, once the host is there; takes one over that the host has kept, where it is the same. */
  start(order: RemoteOrder): WorkerHandle;
}

export interface ElsewhereOptions {
  readonly pool: HostPool;
  readonly networks: readonly (ClusterNetwork & { readonly manifest: Manifest })[];
  readonly devices: readonly WorkerDevice[];
  readonly loader: LoaderChoice;
  readonly sharesMemory: boolean;
  readonly keepWarmMs: number;
}

const identityOf = (rank: number, { networks, devices, loader, sharesMemory }: ElsewhereOptions): string =>
  createHash('sha256')
    .update(
      JSON.stringify([
        networks.map(({ name, manifestSha256, profile, members }) => [name, manifestSha256, profile.name, members]),
        ...[rank, devices[rank], devices.length, loader, sharesMemory, PROTOCOL_VERSION, TOOL_VERSION],
      ]),
    )
    .digest('hex');

/** How workers of further hosts are started; undefined for a rank of this one. */
export const startElsewhere =
  (options: ElsewhereOptions) =>
  (rank: number, id: string): WorkerHandle | undefined => {
    const host = options.devices[rank]?.host;
    if (host === undefined) return undefined;
    const networks = options.networks.flatMap(({ name, shardDirectory, manifest, manifestSha256, members }) => {
      const place = members.indexOf(rank);
      return place < 0 ? [] : [{ name, directory: shardDirectory, manifest, manifestSha256, place }];
    });
    const { sharesMemory, keepWarmMs, pool } = options;
    return pool.start({ host, rank, id, networks, sharesMemory, keepWarmMs, identity: identityOf(rank, options) });
  };
