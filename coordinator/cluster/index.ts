/**
 * The running workers as one denoiser.
 *
 *     const cluster = await launchCluster({ ..., restart: DEFAULT_RESTART, detached: { directory, keepWarmMs: 600_000 } });
 *     await cluster.network().step(inputs);                what a pipeline is given
 *     const { ranks } = await cluster.step([inputs]);      the same with what each rank did, for whoever measures or checks
 *     await cluster.close();
 *
 * **Steps** of whoever asks are taken one after the other, first come, first served, so that several denoising loops may share a
 * cluster: their steps alternate. A step is checked: ranks that end with different bits are an error.
 *
 * A one-shot command gives neither `restart` nor `detached`: its workers end with it, and the loss of one is an error.
 *
 * **Networks**. The workers may run other networks of the denoiser's pipeline beside it, on all ranks or on some:
 *
 *     launchCluster({ ..., networks: [{ name: 'text_encoder', shardDirectory, manifest, profile, members: [1] }] })
 *     await cluster.network('text_encoder').step(inputs)
 *
 * **Recovery** (`restart`). A worker that dies, stops answering or fails is ended and started again, with exponential backoff,
 * while the others keep what they have loaded. The step that was lost is repeated inside `step`, on the same inputs, so an
 * image goes on where it was. A rank that is lost more than `maxAttempts` times without a finished step in between ends the
 * cluster with `CLUSTER_RESTARTS`. What can be watched:
 *
 *     cluster.state            'starting' | 'ready' | 'recovering' | 'failed' | 'closed'; a readiness probe wants 'ready'
 *     cluster.onStateChange((state, error) => ...)   error: with 'recovering' and 'failed'; returns a function that ends it
 *     cluster.onFailure(listener)       the error that ended it
 *     cluster.restarts         workers started in place of lost ones, over all ranks; only rises
 *     cluster.workers          per rank: pid, state, restarts, memory, steps, ...
 *
 * **Warm start** (`detached`). The workers outlive a coordinator that is killed, for `keepWarmMs`, and the next `launchCluster`
 * with the same directory, shards, profile, devices and versions takes them over without loading:
 *
 *     cluster.warm             true when all workers were taken over and have run a step before: no canary step is needed
 *     cluster.workers[i].adopted
 *
 * `close` ends detached workers as it ends all others. A second coordinator at the same time gets `CLUSTER_IN_USE`.
 * `runtimeDirectory(configFile)` is where the workers of a config belong.
 */
export { doAgree } from './agreement.js';
export type { Cluster } from './cluster.js';
export { portOn } from './endpoints.js';
export type { Exit } from './errors.js';
export type { HostPool, RemoteNetwork, RemoteOrder } from './hosts.js';
export { DEFAULT_TIMEOUTS, type LaunchOptions, launchCluster, type SideNetwork } from './launch-cluster.js';
export { DEFAULT_RESTART, type RestartPolicy } from './restart.js';
export { type Detached, runtimeDirectory } from './runtime-directory.js';
export {
  type ClusterState,
  DENOISER,
  type RankStep,
  type StepOptions,
  type StepResult,
  type WorkerDevice,
  type WorkerInfo,
  type Workers,
} from './types.js';
export type { Timeouts } from './watch.js';
export { endNow, type RemoteLink, type WorkerHandle } from './worker-handle.js';
export { KEEP_FREED_MEMORY, WORKER_ENTRY, WorkerProcess } from './worker-process.js';
