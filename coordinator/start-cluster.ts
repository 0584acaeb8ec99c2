/** From prepared shards to running workers and back to none: the frame of `verify`, `generate`, `launch` and `bench`. */
import {
  type Cluster,
  DEFAULT_RESTART,
  type LaunchOptions,
  launchCluster,
  runtimeDirectory,
  type SideNetwork,
} from './cluster/index.js';
import type { ClusterConfig, DeviceConfig } from './config/index.js';
import { checkCancelled, type Hooks } from './hooks.js';
import type { PreparedShards } from './shards/prepare.js';

/** Everything about a cluster but its model. */
export type ClusterSettings = Pick<ClusterConfig, 'devices' | 'wire' | 'quantize' | 'shards' | 'timeouts'> &
  Partial<Pick<ClusterConfig, 'loader' | 'split'>>;

/** What sets a resident cluster apart from a one-shot command's. */
export type Residency = Pick<LaunchOptions, 'restart' | 'detached'>;

/** A resident cluster restarts lost workers, and its workers outlive it when it is killed, as the config says. */
export const residency = ({ file, workers }: Pick<ClusterConfig, 'file' | 'workers'>): Residency => ({
  ...(workers.maxRestarts > 0 ? { restart: { ...DEFAULT_RESTART, maxAttempts: workers.maxRestarts } } : {}),
  ...(workers.keepWarmMs > 0
    ? { detached: { directory: runtimeDirectory(file), keepWarmMs: workers.keepWarmMs } }
    : {}),
});

export interface LaunchRequest extends Hooks, Residency, Pick<ClusterSettings, 'wire' | 'loader' | 'timeouts'> {
  /** Index is the rank. */
  readonly devices: readonly DeviceConfig[];
  /** What the workers run beside the denoiser. */
  readonly networks?: readonly SideNetwork[];
}

/** Shards that may be made anew where they are damaged. */
export type StartableShards = Omit<PreparedShards, 'remake'> & Partial<Pick<PreparedShards, 'remake'>>;

export interface StartedCluster {
  readonly cluster: Cluster;
  /** ms from the first process's start until every worker was ready */
  readonly loadMs: number;
}

/**
 * Starts a worker per device; all load at the same time. The caller closes the cluster.
 * @throws TandemError as `launchCluster` does; no process is left behind then
 */
export const startCluster = async (shards: StartableShards, request: LaunchRequest): Promise<StartedCluster> => {
  checkCancelled(request.signal);
  const start = performance.now();
  const cluster = await launchCluster({
    shardDirectory: shards.directory,
    manifest: shards.manifest,
    profile: shards.profile.name,
    devices: request.devices.map(({ provider, deviceId, threads }) => ({ provider, deviceId, threads })),
    ...(request.networks ? { networks: request.networks } : {}),
    transport: request.wire.transport,
    ...(request.loader ? { loader: request.loader } : {}),
    timeouts: request.timeouts,
    repair: async (signal) => {
      for (const { remake } of [shards, ...(request.networks ?? [])]) await remake?.(signal);
    },
    ...(request.restart ? { restart: request.restart } : {}),
    ...(request.detached ? { detached: request.detached } : {}),
    ...(request.onProgress ? { onProgress: request.onProgress } : {}),
    ...(request.onNotice ? { onNotice: request.onNotice } : {}),
    ...(request.signal ? { signal: request.signal } : {}),
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
  shards: StartableShards,
  request: LaunchRequest,
  work: (started: StartedCluster) => Promise<T>,
): Promise<T> => {
  const started = await startCluster(shards, request);
  return closing(
    request.signal,
    () => started.cluster.close(),
    () => work(started),
  );
};
