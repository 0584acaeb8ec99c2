/**
 * The one way from a planned model to running workers and back to none, for `verify`, `generate`, `launch`, `bench` and calibration:
 *
 *     plan (generate/picture.ts) -> prepareModel (shards of the denoiser and of the networks beside it) -> startCluster
 */

import type { Cluster } from './cluster/index.js';
import {
  DEFAULT_RESTART,
  type LaunchOptions,
  launchCluster,
  runtimeDirectory,
  type SideNetwork,
} from './cluster/index.js';
import type { ClusterConfig, ClusterSettings } from './config/index.js';
import { checkCancelled, type Hooks } from './hooks.js';
import { type PlannedModel, prepareNetworks } from './hosting/index.js';
import { type PreparedShards, prepareShards } from './shards/prepare.js';
import { denoiserRequest } from './shards/request.js';

/** What sets a resident cluster apart from a one-shot command's. */
export type Residency = Pick<LaunchOptions, 'restart' | 'detached'>;

/** A resident cluster restarts lost workers, and its workers outlive it when it is killed, as the config says. */
export const residency = ({ file, workers }: Pick<ClusterConfig, 'file' | 'workers'>): Residency => ({
  ...(workers.maxRestarts > 0 ? { restart: { ...DEFAULT_RESTART, maxAttempts: workers.maxRestarts } } : {}),
  ...(workers.keepWarmMs > 0
    ? { detached: { directory: runtimeDirectory(file), keepWarmMs: workers.keepWarmMs } }
    : {}),
});

/** What is on the disk for workers to load. */
export interface ReadyModel {
  readonly shards: PreparedShards;
  /** What the workers run beside the denoiser. */
  readonly networks: readonly SideNetwork[];
  /** ms spent on the partitioner; 0 where all shards were reused */
  readonly partitionMs: number;
}

/**
 * Finds or makes the shards of a model for a cluster.
 * @param onDemand whether workers open the networks beside the denoiser for their first step
 * @throws TandemError as `prepareShards` does
 */
export const prepareModel = async (
  settings: ClusterSettings,
  planned: PlannedModel,
  hooks: Hooks,
  onDemand = false,
): Promise<ReadyModel> => {
  const shards = await prepareShards(denoiserRequest(settings, planned), hooks);
  const { networks, partitionMs } = await prepareNetworks(planned.networks, onDemand, hooks);
  return { shards, networks, partitionMs: shards.partitionMs + partitionMs };
};

/** What of a cluster's settings its workers are started by. */
export type WorkerSettings = Pick<ClusterSettings, 'devices' | 'wire' | 'loader' | 'timeouts' | 'pool'>;

export interface StartedCluster {
  readonly cluster: Cluster;
  /** ms from the first process's start until every worker was ready */
  readonly loadMs: number;
}

const hooksOf = ({ onProgress, onNotice, signal, onStepTrace }: Hooks): Hooks => ({
  ...(onProgress ? { onProgress } : {}),
  ...(onNotice ? { onNotice } : {}),
  ...(signal ? { signal } : {}),
  ...(onStepTrace ? { onStepTrace } : {}),
});

/**
 * Starts a worker per device; all load at the same time. The caller closes the cluster.
 * @throws TandemError as `launchCluster` does; no process is left behind then
 */
export const startCluster = async (
  { shards, networks }: Omit<ReadyModel, 'partitionMs'>,
  { devices, wire, loader, timeouts, pool }: WorkerSettings,
  hooks: Hooks,
  residency: Residency = {},
): Promise<StartedCluster> => {
  checkCancelled(hooks.signal);
  const start = performance.now();
  const cluster = await launchCluster({
    shardDirectory: shards.directory,
    manifest: shards.manifest,
    profile: shards.profile.name,
    devices: devices.map(({ provider, deviceId, threads, host }) => ({
      ...{ provider, deviceId, threads },
      ...(host === undefined ? {} : { host }),
    })),
    ...(pool === undefined ? {} : { pool }),
    networks,
    transport: wire.transport,
    loader,
    timeouts,
    repair: async (signal) => {
      for (const { remake } of [shards, ...networks]) await remake?.(signal);
    },
    ...residency,
    ...hooksOf(hooks),
  });
  return { cluster, loadMs: performance.now() - start };
};

/**
 * Runs `work` and then `close`, whatever happens; an aborted signal closes at once, which ends a step under way.
 * @throws the signal's reason where it is aborted: a step that ends because its workers were told to stop is a
 *   cancelled step, not a failed one
 */
export const closing = async <T>(
  signal: AbortSignal | undefined,
  close: () => Promise<void>,
  work: () => Promise<T>,
): Promise<T> => {
  const stop = (): void => void close().catch(() => undefined);
  signal?.addEventListener('abort', stop, { once: true });
  try {
    checkCancelled(signal);
    return await work();
  } catch (error) {
    checkCancelled(signal);
    throw error;
  } finally {
    signal?.removeEventListener('abort', stop);
    await close();
  }
};

/** Starts a cluster for the time of `work`. */
export const withCluster = async <T>(
  ready: Omit<ReadyModel, 'partitionMs'>,
  settings: WorkerSettings,
  hooks: Hooks,
  work: (started: StartedCluster) => Promise<T>,
): Promise<T> => {
  const started = await startCluster(ready, settings, hooks);
  return closing(
    hooks.signal,
    () => started.cluster.close(),
    () => work(started),
  );
};
