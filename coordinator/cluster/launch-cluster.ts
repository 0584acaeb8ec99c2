/** Starts a worker per device, all at once, or takes over those that are there; waits until every one is ready. */
import { TandemError } from '../../common/errors.js';
import type { Manifest } from '../../partition/write/manifest.js';
import { checkOptimised } from '../../partition/write/optimise/target.js';
import { findProfile } from '../../shard-worker/check.js';
import type { LoaderChoice } from '../../shard-worker/loader.js';
import { manifestDigest } from '../../shard-worker/manifest-digest.js';
import { ControlServer } from '../../shard-worker/transport.js';
import type { StepTrace } from '../hooks.js';
import { Cluster } from './cluster.js';
import { type Endpoints, makeEndpoints, portOn } from './endpoints.js';
import { detachedTransport } from './errors.js';
import { type HostPool, startElsewhere } from './hosts.js';
import type { RestartPolicy } from './restart.js';
import { type Detached, openRuntime, type Runtime } from './runtime-directory.js';
import { socketsOf, type Transport, type Ways, waysOf } from './transport.js';
import { type ClusterNetwork, DENOISER, type WorkerDevice } from './types.js';
import type { Timeouts } from './watch.js';
import { WORKER_ENTRY } from './worker-process.js';

export const DEFAULT_TIMEOUTS: Timeouts = { startMs: 30_000, loadMs: 600_000, stepMs: 600_000, heartbeatMs: 3_000 };

/** The shards of a network. */
export interface NetworkShards {
  /** Absolute path. */
  readonly shardDirectory: string;
  readonly manifest: Manifest;
  /** Name of the profile to run. */
  readonly profile: string;
}

/** A network beside the denoiser, and the workers that run it. */
export interface SideNetwork extends NetworkShards {
  readonly name: string;
  /** Ranks of the workers; the place in the list is the rank in the shard directory. */
  readonly members: readonly number[];
  /** Opened for its first step instead of at the start. */
  readonly onDemand?: boolean;
  /** Makes its shards anew where they are damaged. */
  readonly remake?: (signal: AbortSignal) => Promise<void>;
}

/** The denoiser's shards, and how its workers are started. */
export interface LaunchOptions extends NetworkShards {
  /** Other networks of the pipeline that the workers run. */
  readonly networks?: readonly SideNetwork[];
  /** Index is the rank. */
  readonly devices: readonly WorkerDevice[];
  /** The further hosts that have some of the devices. */
  readonly pool?: HostPool;
  /** `auto` where absent: shared memory on Linux, else sockets. */
  readonly transport?: Transport;
  readonly timeouts?: Partial<Timeouts>;
  /** How weights come into memory; `auto` where absent. */
  readonly loader?: LoaderChoice;
  /** Stages `check` (bytes) and `load` (segments), summed over the ranks. */
  readonly onProgress?: (stage: string, done: number, total: number) => void;
  /** Told of what was ignored, such as a stranger's message on the control socket. */
  readonly onNotice?: (message: string) => void;
  /** Told what the ranks did in every step. */
  readonly onStepTrace?: (step: StepTrace) => void;
  /** Ends the launch; its reason is thrown. */
  readonly signal?: AbortSignal;
  /** Program of the workers, if not Tandem's own. */
  readonly workerEntry?: string;
  /** Fixed endpoints instead of fresh ones; the exchange endpoints are indexed by rank. */
  readonly endpoints?: { readonly control: string; readonly exchange: readonly string[] };
  /** Starts lost workers again; absent: the loss of one ends the cluster. */
  readonly restart?: RestartPolicy;
  /** Makes damaged shards anew, in the same directories; absent: damage is an error. */
  readonly repair?: (signal: AbortSignal) => Promise<void>;
  /**
   * Lets the workers outlive this process when it is killed, and takes over those that an earlier one left behind. `close`
   * ends them as ever. Not with `tcp`.
   */
  readonly detached?: Detached;
}

type CheckedNetwork = ClusterNetwork & Pick<NetworkShards, 'manifest'>;

/** @throws TandemError `SHARD_WORLD_SIZE`, `SHARD_PREPARED`, `SHARD_PROFILE_MISSING` */
const checkNetwork = async (network: SideNetwork, devices: readonly WorkerDevice[]): Promise<CheckedNetwork> => {
  const { name, manifest, shardDirectory, members, onDemand = false } = network;
  const own = members.flatMap((member) => devices[member] ?? []);
  if (own.length !== manifest.world_size)
    throw new TandemError(
      'SHARD_WORLD_SIZE',
      `The shard directory was made for ${manifest.world_size} ranks, but ${own.length} devices were given; partition again for ${own.length}.`,
    );
  await checkOptimised(manifest, own);
  const profile = findProfile(manifest, network.profile);
  const manifestSha256 = await manifestDigest(shardDirectory);
  return { name, shardDirectory, manifest, manifestSha256, profile, members, onDemand };
};

/** The denoiser, on all workers, and the others. */
const checkNetworks = async (options: LaunchOptions): Promise<readonly CheckedNetwork[]> => {
  const { devices, networks = [] } = options;
  const denoiser = { ...options, name: DENOISER, members: devices.map((_, rank) => rank) };
  return Promise.all([denoiser, ...networks].map((network) => checkNetwork(network, devices)));
};

/** Where this cluster's sockets are, and whose they may be. */
interface Site {
  readonly endpoints: Endpoints;
  readonly privateSockets: boolean;
  readonly runtime?: Runtime;
  /** Undoes `siteOf` when there will be no cluster. */
  leave(): Promise<void>;
}

const detachedSite = async (
  options: LaunchOptions,
  detached: Detached,
  networks: readonly ClusterNetwork[],
  workerEntry: string,
  { sockets, sharesMemory }: Ways,
): Promise<Site> => {
  if (sockets !== 'ipc') throw detachedTransport();
  const { devices, onNotice } = options;
  const named = networks.map(({ profile, ...network }) => ({ ...network, profile: profile.name }));
  const identity = { networks: named, devices, workerEntry, sharesMemory };
  const runtime = await openRuntime(detached, identity, onNotice ?? (() => undefined));
  return { endpoints: runtime.endpoints, privateSockets: true, runtime, leave: async () => runtime.leave() };
};

const DEFAULT_KEEP_WARM_MS = 600_000;

/** The hosts of a cluster's devices; undefined stands for this one. */
const hostsOf = ({ devices, pool }: LaunchOptions): readonly (string | undefined)[] =>
  pool === undefined ? [undefined] : [...new Set(devices.map(({ host }) => host))];

/** Between hosts tensors go over ports; within one as ever, where it can. */
const waysBetween = (options: LaunchOptions, onNotice: (message: string) => void): Ways => {
  const { pool, transport = 'auto', devices } = options;
  const [host, ...others] = hostsOf(options);
  if (pool === undefined || (host === undefined && others.length === 0))
    return waysOf(transport, devices.length, onNotice);
  const sharesMemory = others.length === 0 && host !== undefined && devices.length > 1 && pool.sharesMemory(host);
  return { sockets: socketsOf('auto'), sharesMemory };
};

/** Workers of this host that have peers on another listen where those can reach them; they end with their coordinator. */
const sharedSite = async (pool: HostPool, { sockets }: Ways): Promise<Site> => {
  const endpoints = await makeEndpoints(sockets);
  const exchange = (): string => portOn(pool.address);
  return { endpoints: { ...endpoints, exchange }, privateSockets: true, leave: endpoints.remove };
};

const siteOf = async (
  options: LaunchOptions,
  networks: readonly ClusterNetwork[],
  workerEntry: string,
  ways: Ways,
): Promise<Site> => {
  const { pool } = options;
  if (pool !== undefined && hostsOf(options).some((host) => host !== undefined)) return sharedSite(pool, ways);
  if (options.detached) return detachedSite(options, options.detached, networks, workerEntry, ways);
  if (options.endpoints) {
    const { control, exchange } = options.endpoints;
    const place = { control, exchange: (rank: number) => exchange[rank] ?? '' };
    const endpoints = { ...place, restore: async () => false, remove: async () => undefined };
    return { endpoints, privateSockets: false, leave: endpoints.remove };
  }
  const endpoints = await makeEndpoints(ways.sockets);
  return { endpoints, privateSockets: true, leave: endpoints.remove };
};

const listen = async (site: Site): Promise<ControlServer> => {
  try {
    return await ControlServer.listen(site.endpoints.control);
  } catch (error) {
    await site.leave();
    throw error;
  }
};

/** How workers of further hosts are started, where there are some. */
const elsewhere = (
  { pool, devices, loader = 'auto', detached }: LaunchOptions,
  networks: readonly CheckedNetwork[],
  { sharesMemory }: Ways,
) =>
  pool === undefined
    ? {}
    : {
        startElsewhere: startElsewhere({
          pool,
          networks,
          devices,
          loader,
          sharesMemory,
          keepWarmMs: detached?.keepWarmMs ?? DEFAULT_KEEP_WARM_MS,
        }),
      };

/**
 * Launches the workers of a shard directory. The caller closes the cluster.
 * @throws TandemError `WORKER_START`, `WORKER_DIED`, `WORKER_UNRESPONSIVE`, `WORKER_STALLED`, `WORKER_FAILED` (its cause is the
 *   worker's own error), `SHARD_WORLD_SIZE`, `SHARD_PREPARED`, `SHARD_PROFILE_MISSING`, `ENDPOINT_IN_USE`, `ENDPOINT_TOO_LONG`,
 *   `SHARED_MEMORY_UNAVAILABLE`; with `detached`
 *   also `CLUSTER_IN_USE`, `RUNTIME_DIRECTORY`, `DETACHED_TRANSPORT`. No process is left behind then, but for those that
 *   another coordinator commands
 */
export const launchCluster = async (options: LaunchOptions): Promise<Cluster> => {
  options.signal?.throwIfAborted();
  const { devices, detached, restart, repair, workerEntry = WORKER_ENTRY } = options;
  const networks = await checkNetworks(options);
  const onNotice = options.onNotice ?? (() => undefined);
  const ways = waysBetween(options, onNotice);
  const site = await siteOf(options, networks, workerEntry, ways);
  const server = await listen(site);
  const { endpoints, privateSockets, runtime } = site;
  const cluster = new Cluster({
    networks,
    devices,
    timeouts: { ...DEFAULT_TIMEOUTS, ...options.timeouts },
    loader: options.loader ?? 'auto',
    endpoints,
    privateSockets,
    sharesMemory: ways.sharesMemory,
    control: server.endpoint,
    exchange: (rank) => endpoints.exchange(rank),
    server,
    workerEntry,
    onProgress: options.onProgress ?? (() => undefined),
    onNotice,
    ...elsewhere(options, networks, ways),
    ...(restart ? { restart } : {}),
    ...(repair ? { repair } : {}),
    ...(options.onStepTrace ? { onStepTrace: options.onStepTrace } : {}),
    ...(detached && runtime ? { detached: { runtime, keepWarmMs: detached.keepWarmMs } } : {}),
  });
  await cluster.launched(options.signal);
  return cluster;
};
