/** Starts a worker per device, all at once, and waits until every one has loaded. */
import { TandemError } from '../../partition/errors.js';
import type { Manifest } from '../../partition/manifest.js';
import { findProfile } from '../../shard-worker/check.js';
import { ControlServer } from '../../shard-worker/transport.js';
import { Cluster, type WorkerDevice } from './cluster.js';
import { type Endpoints, makeEndpoints, type Transport } from './endpoints.js';
import type { Timeouts } from './watch.js';
import { WORKER_ENTRY } from './worker-process.js';

export const DEFAULT_TIMEOUTS: Timeouts = { startMs: 30_000, loadMs: 600_000, stepMs: 600_000, heartbeatMs: 3_000 };

export interface LaunchOptions {
  /** Absolute path. */
  readonly shardDirectory: string;
  readonly manifest: Manifest;
  /** Name of the profile to run. */
  readonly profile: string;
  /** Index is the rank. */
  readonly devices: readonly WorkerDevice[];
  /** `ipc`, except on Windows, where it is `tcp`. */
  readonly transport?: Transport;
  readonly timeouts?: Partial<Timeouts>;
  /** Stages `check` (bytes) and `load` (segments), summed over the ranks. */
  readonly onProgress?: (stage: string, done: number, total: number) => void;
  /** Told of what was ignored, such as a stranger's message on the control socket. */
  readonly onNotice?: (message: string) => void;
  /** Ends the launch; its reason is thrown. */
  readonly signal?: AbortSignal;
  /** Program of the workers, if not Tandem's own. */
  readonly workerEntry?: string;
  /** Fixed endpoints instead of fresh ones; the exchange endpoints are indexed by rank. */
  readonly endpoints?: { readonly control: string; readonly exchange: readonly string[] };
}

const checkDevices = (options: LaunchOptions): void => {
  const { devices, manifest } = options;
  if (devices.length === manifest.world_size) return;
  throw new TandemError(
    'SHARD_WORLD_SIZE',
    `The shard directory was made for ${manifest.world_size} ranks, but ${devices.length} devices were given; partition again for ${devices.length}.`,
  );
};

const endpointsOf = async (options: LaunchOptions): Promise<Endpoints> =>
  options.endpoints
    ? { ...options.endpoints, remove: async () => undefined }
    : makeEndpoints(options.transport ?? (process.platform === 'win32' ? 'tcp' : 'ipc'), options.devices.length);

const listen = async (endpoints: Endpoints): Promise<ControlServer> => {
  try {
    return await ControlServer.listen(endpoints.control);
  } catch (error) {
    await endpoints.remove();
    throw error;
  }
};

/**
 * Launches the workers of a shard directory. The caller closes the cluster.
 * @throws TandemError `WORKER_START`, `WORKER_DIED`, `WORKER_UNRESPONSIVE`, `WORKER_STALLED`, `WORKER_FAILED` (its cause is the
 *   worker's own error), `SHARD_WORLD_SIZE`, `SHARD_PROFILE_MISSING`, `ENDPOINT_IN_USE`, `ENDPOINT_TOO_LONG`; no process is
 *   left behind then
 */
export const launchCluster = async (options: LaunchOptions): Promise<Cluster> => {
  options.signal?.throwIfAborted();
  checkDevices(options);
  const profile = findProfile(options.manifest, options.profile);
  const endpoints = await endpointsOf(options);
  const server = await listen(endpoints);
  const cluster = new Cluster({
    shardDirectory: options.shardDirectory,
    profile,
    devices: options.devices,
    timeouts: { ...DEFAULT_TIMEOUTS, ...options.timeouts },
    endpoints,
    server,
    workerEntry: options.workerEntry ?? WORKER_ENTRY,
    onProgress: options.onProgress ?? (() => undefined),
    onNotice: options.onNotice ?? (() => undefined),
  });
  await cluster.launched(options.signal);
  return cluster;
};
