/** What callers give to a cluster and see of it. */

import type { TandemError } from '../../common/errors.js';
import type { Provider } from '../../common/onnxruntime.js';
import type { HostTensor } from '../../common/tensor.js';
import type { Profile } from '../../partition/write/manifest.js';
import type { Memory, StepTimes } from '../../shard-worker/protocol.js';
import type { TraceEvent } from '../../shard-worker/recorder.js';
import type { Network } from '../denoiser.js';
import type { WorkerLife } from './worker-life.js';

/** A device as its worker uses it. */
export interface WorkerDevice {
  readonly provider: Provider;
  readonly deviceId: number;
  readonly threads: number;
  /** Name of the further host that has it; absent for this one. */
  readonly host?: string;
}

/** The network that every cluster runs on all its workers; others of the same pipeline may lie beside it. */
export const DENOISER = 'denoiser';

/** A network that the cluster's workers run, all of them or some. */
export interface ClusterNetwork {
  readonly name: string;
  /** Absolute path. */
  readonly shardDirectory: string;
  readonly manifestSha256: string;
  readonly profile: Profile;
  /** Ranks of the workers that run it; the place in the list is the rank in the shard directory. */
  readonly members: readonly number[];
  /** Opened for its first step instead of at the start. */
  readonly onDemand: boolean;
}

/**
 * `starting` until the first time that all workers are ready; then `ready`, also while a step runs; `recovering` from the
 * loss of a worker until all are ready again; at last `failed` or `closed`.
 */
export type ClusterState = 'starting' | 'ready' | 'recovering' | 'failed' | 'closed';

/** A worker as others may see it. */
export interface WorkerInfo {
  readonly rank: number;
  readonly pid: number;
  readonly state: WorkerLife['kind'];
  readonly weight_bytes: number;
  readonly load_ms: number;
  /** bytes */
  readonly memory: Memory;
  /** Steps that this process has finished, also for an earlier coordinator. */
  readonly steps: number;
  /** Whether an earlier coordinator started it. */
  readonly adopted: boolean;
  /** How often this rank was started again. */
  readonly restarts: number;
}

/** One rank's part in a step. */
export interface RankStep {
  readonly rank: number;
  readonly outputs_sha256: string;
  /** ms and bytes */
  readonly times: StepTimes;
  /** bytes */
  readonly memory: Memory;
  /** Where they were asked for; index is the micro-batch. */
  readonly outputs?: readonly Readonly<Record<string, HostTensor>>[];
  /** What went on when, where that was asked for. */
  readonly trace?: readonly TraceEvent[];
}

export interface StepOptions {
  /** Which network; the denoiser where absent. */
  readonly network?: string;
  /** Whose outputs come back besides the digests: those of the network's first rank (the default) or every rank's. */
  readonly outputs?: 'first' | 'all';
  /** Whether ranks may end with different bits, which the caller looks at; otherwise that is an error. */
  readonly mayDisagree?: boolean;
  /** Whether the ranks tell what they do when. */
  readonly trace?: boolean;
  /** Takes a step that waits for others out of the line; its reason is thrown. One that is under way is finished. */
  readonly signal?: AbortSignal | undefined;
  /** Whether every group of workers that has the whole model takes the step, as a proof of all of them. */
  readonly everywhere?: boolean;
}

export interface StepResult {
  /** The first rank's outputs by name; index is the micro-batch. */
  readonly outputs: readonly Record<string, HostTensor>[];
  /** Those that run the network, by rank. */
  readonly ranks: readonly RankStep[];
}

/** Running workers of a model, be they one cluster or several. */
export interface Workers {
  /** Index is the rank. */
  readonly workers: readonly WorkerInfo[];
  readonly state: ClusterState;
  /** How many workers were started in place of lost ones since the launch. */
  readonly restarts: number;
  /** Whether every worker was taken over from an earlier coordinator and has finished a step before: nothing was loaded. */
  readonly warm: boolean;
  /** What each rank did in the denoiser's last finished step that it had a part in. */
  readonly lastStep: readonly RankStep[];
  /** Calls `listener` when the workers are lost for good, also between steps; at once if they are. */
  onFailure(listener: (error: TandemError) => void): void;
  /** Calls `listener` with every new state; with `recovering` and `failed` comes the error. @returns ends that */
  onStateChange(listener: (state: ClusterState, error?: TandemError) => void): () => void;
  /** The denoiser, or another network that the workers run. @throws TandemError `CLUSTER_NETWORK` where they run none of that name */
  network(name?: string): Network;
  /** Runs a network once for each of these micro-batches, all under way at once. @throws as `Cluster.step` */
  step(microBatches: readonly Readonly<Record<string, HostTensor>>[], options?: StepOptions): Promise<StepResult>;
  close(): Promise<void>;
}
