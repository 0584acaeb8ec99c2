/** The running workers as one denoiser, with other networks of its pipeline where they run those too. */
import { TandemError } from '../../common/errors.js';
import { machineTime } from '../../shard-worker/recorder.js';
import { type Network, networkFrom } from '../denoiser.js';
import type { StepTrace } from '../hooks.js';
import { areUnlike, doAgree } from './agreement.js';
import { clusterClosed, clusterFailed, ranksDisagree } from './errors.js';
import { Group, type GroupOptions } from './group.js';
import { Recovery, type RecoveryOptions } from './recovery.js';
import { type Inputs, StepQueue } from './step-queue.js';
import {
  type ClusterNetwork,
  type ClusterState,
  DENOISER,
  type RankStep,
  type StepOptions,
  type StepResult,
  type WorkerInfo,
  type Workers,
} from './types.js';

export interface ClusterOptions extends Omit<GroupOptions, 'onIdle' | 'onLost' | 'onBroken'>, RecoveryOptions {
  /** Told what the ranks did in every step. */
  readonly onStepTrace?: (step: StepTrace) => void;
}

/** Whoever waits for the launch. */
interface Launching {
  readonly resolve: () => void;
  readonly reject: (error: unknown) => void;
}

type Ending = { readonly kind: 'closed' } | { readonly kind: 'failed'; readonly error: TandemError };
/** `error` is the loss that is recovered from, or the failure. */
type StateListener = (state: ClusterState, error?: TandemError) => void;

export class Cluster implements Workers {
  readonly #options: ClusterOptions;
  readonly #group: Group;
  readonly #recovery: Recovery;
  readonly #steps = new StepQueue();
  readonly #failureListeners: ((error: TandemError) => void)[] = [];
  readonly #stateListeners = new Set<StateListener>();
  #state: ClusterState = 'starting';
  #lastStep: readonly RankStep[] = [];
  #launching: Launching | undefined;
  /** When the step under way began, in µs of the machine's clock. */
  #begun = 0;
  #ending: Ending | undefined;
  #torndown: Promise<void> | undefined;
  /** Starts all processes; `launched` waits for them. */
  constructor(options: ClusterOptions) {
    this.#options = options;
    this.#group = new Group({
      ...options,
      onIdle: () => this.#onIdle(),
      onLost: (loss) => this.#recovery.onLost(loss),
      onBroken: (error) => this.#end({ kind: 'failed', error }),
    });
    this.#recovery = new Recovery(options, {
      group: this.#group,
      wasReady: () => this.#state !== 'starting',
      onRecovering: (error) => this.#setState('recovering', error),
      onFailed: (error) => this.#end({ kind: 'failed', error }),
    });
  }

  /**
   * The denoiser, or another network that the workers run, such as a text encoder.
   * @throws TandemError `CLUSTER_NETWORK` where they run none of that name
   */
  network(name: string = DENOISER): Network {
    const { profile } = this.#networkOf(name);
    return networkFrom(
      profile,
      async (microBatches, signal) => (await this.step(microBatches, { network: name, signal })).outputs,
    );
  }

  /** The workers; index is the rank. */
  get workers(): readonly WorkerInfo[] {
    return this.#group.workers;
  }

  get state(): ClusterState {
    return this.#state;
  }

  /** How many workers were started in place of lost ones since the launch. */
  get restarts(): number {
    return this.#group.restarts;
  }

  /** Whether every worker was taken over from an earlier coordinator and has finished a step before: nothing was loaded. */
  get warm(): boolean {
    return this.workers.every(({ adopted, steps }) => adopted && steps > 0);
  }

  /** Digests and times of the denoiser's last finished step; index is the rank. Empty before the first. */
  get lastStep(): readonly RankStep[] {
    return this.#lastStep;
  }

  /** Calls `listener` when the cluster fails, also between steps; at once if it has failed already. */
  onFailure(listener: (error: TandemError) => void): void {
    if (this.#ending?.kind === 'failed') listener(this.#ending.error);
    else this.#failureListeners.push(listener);
  }

  /**
   * Calls `listener` with every new state, not with the present one; with `recovering` and `failed` comes the error.
   * @returns ends that
   */
  onStateChange(listener: StateListener): () => void {
    this.#stateListeners.add(listener);
    return () => void this.#stateListeners.delete(listener);
  }

  /**
   * Waits until every worker has loaded.
   * @throws TandemError as `launchCluster`; the signal's reason when it aborts. Nothing is left behind then
   */
  async launched(signal?: AbortSignal): Promise<void> {
    const abort = (): void => void this.close();
    signal?.addEventListener('abort', abort, { once: true });
    // It may have fired while the place was made ready.
    if (signal?.aborted) abort();
    try {
      await this.#untilLaunched();
    } catch (error) {
      await this.#torndown;
      signal?.throwIfAborted();
      throw error;
    } finally {
      signal?.removeEventListener('abort', abort);
    }
  }

  /**
   * Runs a network on its ranks once for each of these micro-batches, all under way at once, when the steps that were asked for
   * before are done. Where lost workers are restarted, a step that lost one is repeated on the restored group: its result is the
   * same, it only takes longer. A step whose ranks end with different bits is run once more, as a passing fault costs nobody a
   * picture then.
   * @param microBatches every input by name, as the network describes them; they must not change before the step is done
   * @returns the first rank's outputs, with every rank's digest, times and, where asked for, outputs
   * @throws TandemError `STEP_INPUTS`, `CLUSTER_NETWORK`, `CLUSTER_CLOSED`, `CLUSTER_FAILED`, `CLUSTER_RESTARTS`, `RANKS_DISAGREE`, and,
   *   without restarts, all `WORKER_*`; after those the workers are gone. The signal's reason
   */
  async step(microBatches: readonly Inputs[], options: StepOptions = {}): Promise<StepResult> {
    const { devices } = this.#options;
    const asked: StepOptions = areUnlike(devices) ? { ...options, outputs: 'all' } : options;
    const first = await this.#run(microBatches, asked);
    if (options.mayDisagree || doAgree(first.ranks, devices)) return first;
    const second = await this.#run(microBatches, asked);
    if (doAgree(second.ranks, devices)) return second;
    throw ranksDisagree(second.ranks);
  }

  async #run(microBatches: readonly Inputs[], options: StepOptions): Promise<StepResult> {
    const network = this.#networkOf(options.network ?? DENOISER);
    if (this.#ending?.kind === 'failed') throw clusterFailed(this.#ending.error);
    if (this.#ending !== undefined) throw clusterClosed();
    return this.#steps.add({ microBatches, network, options }, () => this.#begin());
  }

  /** Ends all workers and removes the sockets; a step that is under way ends with `CLUSTER_CLOSED`. */
  async close(): Promise<void> {
    this.#end({ kind: 'closed' });
    await this.#torndown;
  }

  #networkOf(name: string): ClusterNetwork {
    const { networks } = this.#options;
    const found = networks.find((network) => network.name === name);
    if (found !== undefined) return found;
    throw new TandemError(
      'CLUSTER_NETWORK',
      `Expected one of the networks that the workers run (${networks.map((network) => network.name).join(', ')}); found "${name}".`,
    );
  }

  #untilLaunched(): Promise<void> {
    return new Promise((resolve, reject) => {
      this.#launching = { resolve, reject };
      if (this.#torndown !== undefined) void this.#torndown.then(() => this.#settle());
      else if (this.#state === 'ready') resolve();
    });
  }

  #setState(state: ClusterState, error?: TandemError): void {
    if (this.#state === state) return;
    this.#state = state;
    for (const listener of this.#stateListeners) listener(state, error);
  }

  #onIdle(): void {
    if (this.#ending !== undefined) return;
    if (this.#state === 'ready') {
      this.#finishStep();
      return;
    }
    this.#recovery.ready();
    this.#setState('ready');
    this.#launching?.resolve();
    this.#launching = undefined;
    this.#begin();
  }

  /** Begins the step that waited longest, if the workers are there. */
  #begin(): void {
    const next = this.#steps.first;
    if (next === undefined || this.#state !== 'ready') return;
    this.#begun = machineTime();
    const { microBatches, network, options } = next;
    this.#group.step(microBatches, network, { trace: this.#options.onStepTrace !== undefined, ...options });
  }

  #tellTrace(network: string, results: readonly RankStep[]): void {
    const ranks = results.map(({ rank, trace = [] }) => ({ rank, events: trace }));
    const duration = machineTime() - this.#begun;
    this.#options.onStepTrace?.({ group: 'workers', network, start: this.#begun, duration, ranks });
  }

  #finishStep(): void {
    const { results } = this.#group;
    if (results.length === 0) return;
    const done = this.#steps.shift();
    if (done === undefined) return;
    this.#recovery.stepped();
    this.#tellTrace(done.network.name, results);
    if (done.network.name === DENOISER) this.#lastStep = results.map(({ outputs: _, ...rest }) => rest);
    done.resolve({ outputs: (results[0]?.outputs ?? []).map((outputs) => ({ ...outputs })), ranks: results });
    this.#begin();
  }

  #end(ending: Ending): void {
    if (this.#ending !== undefined) return;
    this.#ending = ending;
    this.#recovery.stop();
    this.#torndown = this.#tearDown(ending).finally(() => {
      this.#settle();
      if (ending.kind === 'failed') for (const listener of this.#failureListeners) listener(ending.error);
    });
    this.#setState(ending.kind, ending.kind === 'failed' ? ending.error : undefined);
  }

  async #tearDown(ending: Ending): Promise<void> {
    await this.#group.end(ending.kind === 'closed');
    this.#options.server.close();
    // What somebody else has put in its place stays.
    await this.#options.endpoints.remove().catch(() => undefined);
  }

  #settle(): void {
    const error = this.#ending?.kind === 'failed' ? this.#ending.error : clusterClosed();
    this.#launching?.reject(error);
    this.#steps.rejectAll(error);
    this.#launching = undefined;
  }
}
