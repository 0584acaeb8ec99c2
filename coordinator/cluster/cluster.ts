/** The running workers as one denoiser, with other networks of its pipeline where they run those too, and the supervisor that brings the group back, or ends it, when a worker is lost. */
import { setTimeout as delay } from 'node:timers/promises';
import { TandemError } from '../../common/errors.js';
import type { HostTensor, TensorSpec } from '../../common/tensor.js';
import { tensorProblems } from '../../shard-worker/inputs.js';
import { machineTime } from '../../shard-worker/recorder.js';
import { type Denoiser, type Network, networkFrom } from '../denoiser.js';
import type { StepTrace } from '../hooks.js';
import { areUnlike, doAgree } from './agreement.js';
import type { Endpoints } from './endpoints.js';
import {
  clusterClosed,
  clusterFailed,
  isDamage,
  ranksDisagree,
  restartsExhausted,
  workerNotReplaced,
} from './errors.js';
import { Group, type GroupOptions, type Loss } from './group.js';
import { backoff, Losses, type RestartPolicy } from './restart.js';
import {
  type ClusterNetwork,
  type ClusterState,
  DENOISER,
  type RankStep,
  type StepAllOptions,
  type StepAllResult,
  type WorkerInfo,
} from './types.js';

export interface ClusterOptions extends Omit<GroupOptions, 'onIdle' | 'onLost' | 'onBroken'> {
  readonly endpoints: Endpoints;
  /** Absent: the loss of a worker ends the cluster. */
  readonly restart?: RestartPolicy;
  /** Makes damaged shards anew: they are derived data. Absent: damage is a loss like any other. */
  readonly repair?: (signal: AbortSignal) => Promise<void>;
  /** Told what the ranks did in every step. */
  readonly onStepTrace?: (step: StepTrace) => void;
}

type Inputs = Readonly<Record<string, HostTensor>>;

/** A step that somebody waits for. */
interface PendingStep {
  readonly microBatches: readonly Inputs[];
  readonly network: ClusterNetwork;
  readonly options: StepAllOptions;
  readonly resolve: (result: StepAllResult) => void;
  readonly reject: (error: unknown) => void;
}

/** Whoever waits for the launch. */
interface Launching {
  readonly resolve: () => void;
  readonly reject: (error: unknown) => void;
}

type Ending = { readonly kind: 'closed' } | { readonly kind: 'failed'; readonly error: TandemError };
/** `error` is the loss that is recovered from, or the failure. */
type StateListener = (state: ClusterState, error?: TandemError) => void;

export class Cluster implements Denoiser {
  readonly #options: ClusterOptions;
  readonly #group: Group;
  readonly #losses = new Losses();
  readonly #failureListeners: ((error: TandemError) => void)[] = [];
  readonly #stateListeners = new Set<StateListener>();
  readonly #stopping = new AbortController();
  #state: ClusterState = 'starting';
  #lastStep: readonly RankStep[] = [];
  #launching: Launching | undefined;
  #pending: PendingStep | undefined;
  /** When the step under way began, in µs of the machine's clock. */
  #begun = 0;
  #ending: Ending | undefined;
  #torndown: Promise<void> | undefined;
  /** Whether all workers are to be replaced, and what must be done before; the loss of one is no news then. */
  #renewal: (() => Promise<void>) | undefined;
  /** Whether shards were made anew since the last finished step: doing it again would not help. */
  #repaired = false;
  /** Rises when all workers are replaced: what was planned for one of them before is void. */
  #turn = 0;

  /** Starts all processes; `launched` waits for them. */
  constructor(options: ClusterOptions) {
    this.#options = options;
    this.#group = new Group({
      ...options,
      onIdle: () => this.#onIdle(),
      onLost: (loss) => this.#onLost(loss),
      onBroken: (error) => this.#end({ kind: 'failed', error }),
    });
  }

  get inputs(): readonly TensorSpec[] {
    return this.#networkOf(DENOISER).profile.inputs;
  }

  get outputs(): readonly TensorSpec[] {
    return this.#networkOf(DENOISER).profile.outputs;
  }

  /**
   * Another network that the workers run, such as a text encoder. One step at a time, whichever network's.
   * @throws TandemError `CLUSTER_NETWORK` where they run none of that name
   */
  network(name: string): Network {
    const { profile } = this.#networkOf(name);
    return networkFrom(profile, async (microBatches) => (await this.stepAll(microBatches, { network: name })).outputs);
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
   * Runs the denoiser once on all ranks and returns rank 0's outputs. Where lost workers are restarted, a step that lost one
   * is repeated on the restored group: its result is the same, it only takes longer.
   * @param inputs every input by name, as `inputs` describes them; they must not change before the step is done
   * @throws TandemError `STEP_INPUTS`, `CLUSTER_BUSY`, `CLUSTER_CLOSED`, `CLUSTER_FAILED`, `CLUSTER_RESTARTS`, `RANKS_DISAGREE`, and, without
   *   restarts, all `WORKER_*`; after those the workers are gone
   */
  async step(inputs: Inputs): Promise<Record<string, HostTensor>> {
    return { ...(await this.stepEach([inputs]))[0] };
  }

  async stepEach(microBatches: readonly Inputs[]): Promise<StepAllResult['outputs']> {
    return (await this.stepAll(microBatches)).outputs;
  }

  /**
   * Like `stepEach`, for any of the networks, with every rank's digest, times and, where asked for, outputs. A step whose ranks
   * end with different bits is run once more, as a passing fault costs nobody a picture then.
   * @throws TandemError as `step`, `CLUSTER_NETWORK`, `RANKS_DISAGREE`
   */
  async stepAll(microBatches: readonly Inputs[], options: StepAllOptions = {}): Promise<StepAllResult> {
    const { devices } = this.#options;
    const asked: StepAllOptions = areUnlike(devices) ? { ...options, outputs: 'all' } : options;
    const first = await this.#run(microBatches, asked);
    if (options.mayDisagree || doAgree(first.ranks, devices)) return first;
    const second = await this.#run(microBatches, asked);
    if (doAgree(second.ranks, devices)) return second;
    throw ranksDisagree(second.ranks);
  }

  async #run(microBatches: readonly Inputs[], options: StepAllOptions): Promise<StepAllResult> {
    const network = this.#networkOf(options.network ?? DENOISER);
    this.#checkStep(microBatches, network);
    return new Promise((resolve, reject) => {
      this.#pending = { microBatches, network, options, resolve, reject };
      if (this.#state === 'ready') this.#begin(this.#pending);
    });
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

  #checkStep(microBatches: readonly Inputs[], { profile }: ClusterNetwork): void {
    if (this.#ending?.kind === 'failed') throw clusterFailed(this.#ending.error);
    if (this.#ending !== undefined) throw clusterClosed();
    if (this.#pending !== undefined)
      throw new TandemError('CLUSTER_BUSY', 'Expected one step at a time; await the step that is under way.');
    const problems =
      microBatches.length === 0
        ? ['there are none']
        : microBatches.flatMap((inputs) => tensorProblems(profile.inputs, inputs));
    if (problems.length === 0) return;
    throw new TandemError('STEP_INPUTS', `Step inputs do not fit the model: ${problems.join('; ')}.`, { problems });
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
    this.#losses.ready(performance.now());
    this.#setState('ready');
    this.#launching?.resolve();
    this.#launching = undefined;
    if (this.#pending === undefined) return;
    this.#begin(this.#pending);
  }

  #begin({ microBatches, network, options }: PendingStep): void {
    this.#begun = machineTime();
    this.#group.step(microBatches, network, { trace: this.#options.onStepTrace !== undefined, ...options });
  }

  #tellTrace(network: string, results: readonly RankStep[]): void {
    const ranks = results.map(({ rank, trace = [] }) => ({ rank, events: trace }));
    const duration = machineTime() - this.#begun;
    this.#options.onStepTrace?.({ group: 'workers', network, start: this.#begun, duration, ranks });
  }

  #finishStep(): void {
    const { results } = this.#group;
    const pending = this.#pending;
    if (pending === undefined || results.length === 0) return;
    this.#pending = undefined;
    this.#repaired = false;
    this.#losses.stepped();
    this.#tellTrace(pending.network.name, results);
    if (pending.network.name === DENOISER) this.#lastStep = results.map(({ outputs: _, ...rest }) => rest);
    pending.resolve({ outputs: (results[0]?.outputs ?? []).map((outputs) => ({ ...outputs })), ranks: results });
  }

  /** A worker that cannot be taken over is one that must be started; any other loss ends the launch, or is recovered from. */
  #onLost({ rank, error, refused }: Loss): void {
    if (this.#ending !== undefined || this.#renewal !== undefined) return;
    if (refused) {
      this.#options.onNotice(`${error.message} Starting a new one.`);
      this.#replaceLater(rank, 0, false);
      return;
    }
    if (isDamage(error) && this.#options.repair !== undefined && !this.#repaired) this.#repair(rank, error);
    else this.#lose(rank, error);
  }

  #lose(rank: number, error: TandemError): void {
    const { restart } = this.#options;
    if (restart === undefined || this.#state === 'starting') this.#end({ kind: 'failed', error });
    else this.#recover(rank, error, restart);
  }

  /** Workers that are well are replaced too: what they have loaded may come from files of before. */
  #repair(rank: number, error: TandemError): void {
    this.#repaired = true;
    this.#options.onNotice(`${error.message} Shards are derived data: making them anew.`);
    this.#renewal = async () => this.#options.repair?.(this.#stopping.signal);
    this.#group.interrupt();
    if (this.#state === 'ready') this.#setState('recovering', error);
    this.#replaceLater(rank, 0, false);
  }

  #recover(rank: number, error: TandemError, restart: RestartPolicy): void {
    const lost = this.#losses.add(rank, performance.now());
    if (lost > restart.maxAttempts) {
      this.#end({ kind: 'failed', error: restartsExhausted(rank, lost, restart.maxAttempts, error) });
      return;
    }
    this.#options.onNotice(`${error.message} Starting it again (${lost} of ${restart.maxAttempts}).`);
    this.#group.interrupt();
    this.#replaceLater(rank, backoff(restart, lost), true);
    this.#setState('recovering', error);
  }

  #replaceLater(rank: number, waitMs: number, counts: boolean): void {
    this.#replace(rank, waitMs, counts).catch((cause: unknown) => {
      if (!this.#stopping.signal.aborted) this.#lose(rank, workerNotReplaced(rank, cause));
    });
  }

  async #replace(rank: number, waitMs: number, counts: boolean): Promise<void> {
    const turn = this.#turn;
    await Promise.all([this.#group.bury(rank), delay(waitMs, undefined, { signal: this.#stopping.signal })]);
    if (turn !== this.#turn) return;
    if (await this.#restorePlace()) this.#renewal ??= async () => undefined;
    if (this.#renewal === undefined) this.#group.replace(rank, counts);
    else await this.#replaceAll(this.#renewal, counts);
  }

  async #replaceAll(prepare: () => Promise<void>, counts: boolean): Promise<void> {
    this.#turn += 1;
    this.#group.interrupt();
    await Promise.all([this.#group.buryAll(), prepare()]);
    this.#renewal = undefined;
    this.#group.replaceAll(counts);
  }

  /** @returns whether sockets were gone with their directory: then no worker can be found by the others */
  async #restorePlace(): Promise<boolean> {
    if (!(await this.#options.endpoints.restore())) return false;
    this.#options.onNotice("The directory of the workers' sockets was removed. Making it again, and all workers.");
    await this.#options.server.relisten();
    return true;
  }

  #end(ending: Ending): void {
    if (this.#ending !== undefined) return;
    this.#ending = ending;
    this.#stopping.abort();
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
    this.#pending?.reject(error);
    this.#launching = undefined;
    this.#pending = undefined;
  }
}
