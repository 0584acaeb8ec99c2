/** The running workers as one denoiser, and the supervisor that ends them all when one is lost. */
import { randomBytes } from 'node:crypto';
import { TandemError } from '../../partition/errors.js';
import type { Profile } from '../../partition/manifest.js';
import type { Provider } from '../../partition/onnxruntime.js';
import type { HostTensor, TensorSpec } from '../../partition/tensor.js';
import { tensorProblems } from '../../shard-worker/inputs.js';
import type { FromWorker, Memory, StepTimes, ToWorker } from '../../shard-worker/protocol.js';
import type { ControlServer } from '../../shard-worker/transport.js';
import { decodeFromWorker, encodeMessage, toProblem } from '../../shard-worker/wire.js';
import type { Denoiser } from '../denoiser.js';
import type { Endpoints } from './endpoints.js';
import { clusterClosed, clusterFailed, workerFailed } from './errors.js';
import { LoadProgress } from './load-progress.js';
import { excusePause, overdue, pingInterval, type Timeouts } from './watch.js';
import {
  afterMessage,
  born,
  type Health,
  isOver,
  type LifeEvent,
  newborn,
  transition,
  type WorkerLife,
} from './worker-life.js';
import { WorkerProcess } from './worker-process.js';

/** A device as its worker uses it. */
export interface WorkerDevice {
  readonly provider: Provider;
  readonly deviceId: number;
  readonly threads: number;
}

/** A worker as others may see it. */
export interface WorkerInfo {
  readonly rank: number;
  readonly pid: number;
  readonly weight_bytes: number;
  readonly load_ms: number;
  /** bytes */
  readonly memory: Memory;
}

/** One rank's part in a step. */
export interface RankStep {
  readonly rank: number;
  readonly outputs_sha256: string;
  /** ms and bytes */
  readonly times: StepTimes;
  /** bytes */
  readonly memory: Memory;
  /** Where they were asked for. */
  readonly outputs?: Readonly<Record<string, HostTensor>>;
}

export interface StepAllOptions {
  /** Whose outputs come back besides the digests: rank 0's (the default) or every rank's. */
  readonly outputs?: 'first' | 'all';
}

export interface StepAllResult {
  /** Rank 0's outputs by name. */
  readonly outputs: Record<string, HostTensor>;
  /** Index is the rank. */
  readonly ranks: readonly RankStep[];
}

export interface ClusterOptions {
  readonly shardDirectory: string;
  readonly profile: Profile;
  readonly devices: readonly WorkerDevice[];
  readonly timeouts: Timeouts;
  readonly endpoints: Endpoints;
  readonly server: ControlServer;
  readonly workerEntry: string;
  readonly onProgress: (stage: string, done: number, total: number) => void;
  readonly onNotice: (message: string) => void;
}

/** A worker with what is known of it. */
interface Member {
  readonly rank: number;
  readonly id: string;
  readonly process: WorkerProcess;
  life: WorkerLife;
  health: Health;
}

/** What the caller waits for: the launch, or a step. */
interface Waiting {
  readonly resolve: () => void;
  readonly reject: (error: unknown) => void;
}

type Ending = { readonly kind: 'closed' } | { readonly kind: 'failed'; readonly error: TandemError };

export class Cluster implements Denoiser {
  readonly #options: ClusterOptions;
  readonly #members: readonly Member[];
  readonly #loadProgress = new LoadProgress();
  readonly #listeners: ((error: TandemError) => void)[] = [];
  readonly #pinger: NodeJS.Timeout;
  #lastTick = performance.now();
  #pings = 0;
  #steps = 0;
  #loadSent = false;
  #results: RankStep[] = [];
  #lastStep: readonly RankStep[] = [];
  #waiting: Waiting | undefined;
  #ending: Ending | undefined;
  #torndown: Promise<void> | undefined;

  /** Starts all processes; `launched` waits for them. */
  constructor(options: ClusterOptions) {
    this.#options = options;
    this.#members = options.devices.map((_, rank) => this.#start(rank));
    this.#pinger = setInterval(() => this.#tick(), pingInterval(options.timeouts));
    this.#listen().catch((cause: unknown) => {
      this.#fail(new TandemError('CLUSTER_CONTROL', 'The control socket failed; launch a new cluster.', { cause }));
    });
  }

  get inputs(): readonly TensorSpec[] {
    return this.#options.profile.inputs;
  }

  get outputs(): readonly TensorSpec[] {
    return this.#options.profile.outputs;
  }

  /** The workers; index is the rank. */
  get workers(): readonly WorkerInfo[] {
    return this.#members.map(({ rank, process, life, health }) => {
      const loaded = life.kind === 'ready' || life.kind === 'stepping' ? life.loaded : { weight_bytes: 0, load_ms: 0 };
      return { rank, pid: process.pid, ...loaded, memory: health.memory };
    });
  }

  /** Digests and times of the last finished step; index is the rank. Empty before the first. */
  get lastStep(): readonly RankStep[] {
    return this.#lastStep;
  }

  /** Calls `listener` when the cluster fails, also between steps; at once if it has failed already. */
  onFailure(listener: (error: TandemError) => void): void {
    if (this.#ending?.kind === 'failed') listener(this.#ending.error);
    else this.#listeners.push(listener);
  }

  /**
   * Waits until every worker has loaded.
   * @throws TandemError as `launchCluster`; the signal's reason when it aborts. Nothing is left behind then
   */
  async launched(signal?: AbortSignal): Promise<void> {
    const abort = (): void => void this.close();
    signal?.addEventListener('abort', abort, { once: true });
    try {
      await this.#wait();
    } catch (error) {
      await this.#torndown;
      signal?.throwIfAborted();
      throw error;
    } finally {
      signal?.removeEventListener('abort', abort);
    }
  }

  /**
   * Runs the network once on all ranks and returns rank 0's outputs.
   * @param inputs every input by name, as `inputs` describes them
   * @throws TandemError `STEP_INPUTS`, `CLUSTER_BUSY`, `CLUSTER_CLOSED`, `CLUSTER_FAILED`, and all `WORKER_*`; after those the
   *   workers are gone
   */
  async step(inputs: Readonly<Record<string, HostTensor>>): Promise<Record<string, HostTensor>> {
    return (await this.stepAll(inputs)).outputs;
  }

  /** Like `step`, with every rank's digest, times and, where asked for, outputs. */
  async stepAll(inputs: Readonly<Record<string, HostTensor>>, options: StepAllOptions = {}): Promise<StepAllResult> {
    this.#checkStep(inputs);
    this.#steps += 1;
    this.#results = [];
    const done = this.#wait();
    for (const member of this.#members) {
      const want_outputs = member.rank === 0 || options.outputs === 'all';
      this.#event(member, { kind: 'step_sent', step: this.#steps });
      member.health = { ...member.health, progressAt: performance.now() };
      this.#send(member, { kind: 'step', id: this.#steps, inputs: { ...inputs }, want_outputs });
    }
    await done;
    const ranks = this.#results.toSorted((a, b) => a.rank - b.rank);
    this.#lastStep = ranks.map(({ outputs: _, ...rest }) => rest);
    return { outputs: { ...ranks[0]?.outputs }, ranks };
  }

  /** Ends all workers and removes the sockets; a step that is under way ends with `CLUSTER_CLOSED`. */
  async close(): Promise<void> {
    if (this.#ending === undefined) this.#end({ kind: 'closed' });
    await this.#torndown;
  }

  #start(rank: number): Member {
    const { endpoints, server, workerEntry } = this.#options;
    const id = `${rank}-${randomBytes(16).toString('hex')}`;
    const exchange = endpoints.exchange[rank] ?? '';
    const process = new WorkerProcess({ entry: workerEntry, rank, id, control: server.endpoint, exchange });
    const now = performance.now();
    const member: Member = { rank, id, process, life: born(now), health: newborn(now) };
    process.ended.then((exit) => this.#event(member, { kind: 'exited', exit, stderr: process.stderr }));
    return member;
  }

  #checkStep(inputs: Readonly<Record<string, HostTensor>>): void {
    if (this.#ending?.kind === 'failed') throw clusterFailed(this.#ending.error);
    if (this.#ending !== undefined) throw clusterClosed();
    if (this.#waiting !== undefined)
      throw new TandemError('CLUSTER_BUSY', 'Expected one step at a time; await the step that is under way.');
    const problems = tensorProblems(this.inputs, inputs);
    if (problems.length === 0) return;
    throw new TandemError('STEP_INPUTS', `Step inputs do not fit the model: ${problems.join('; ')}.`, { problems });
  }

  #wait(): Promise<void> {
    return new Promise((resolve, reject) => {
      this.#waiting = { resolve, reject };
      if (this.#ending !== undefined) this.#settle();
    });
  }

  async #listen(): Promise<void> {
    for await (const { from, frame } of this.#options.server.messages()) {
      const member = this.#members.find((candidate) => candidate.id === from);
      if (member === undefined)
        this.#options.onNotice(`Ignored ${frame.byteLength} bytes from a stranger on the control socket.`);
      else this.#receive(member, frame);
    }
  }

  #receive(member: Member, frame: Buffer): void {
    if (this.#ending !== undefined) return;
    let message: FromWorker;
    try {
      message = decodeFromWorker(frame, `rank ${member.rank}`);
    } catch (error) {
      this.#event(member, { kind: 'given_up', error: workerFailed(member.rank, toProblem(error)) });
      return;
    }
    member.health = afterMessage(member.health, message, performance.now());
    this.#note(member, message);
    this.#event(member, { kind: 'message', message });
  }

  #note({ rank }: Member, message: FromWorker): void {
    if (message.kind === 'progress' && message.phase !== 'step') {
      const { done, total } = this.#loadProgress.add(rank, message.phase, message.done, message.total);
      this.#options.onProgress(message.phase, done, total);
    }
    if (message.kind === 'step_done') {
      const { outputs_sha256, times, memory, outputs } = message;
      this.#results.push({ rank, outputs_sha256, times, memory, ...(outputs ? { outputs } : {}) });
    }
  }

  /** Everything that happens to a worker passes here: the new life decides what to do. */
  #event(member: Member, event: LifeEvent): void {
    member.life = transition(member.rank, member.life, event, performance.now());
    if (member.life.kind === 'failed') this.#fail(member.life.error);
    else this.#advance();
  }

  /** Sends the load order once all have said hello; ends the wait once all are ready. */
  #advance(): void {
    const endpoints = this.#members.flatMap(({ life }) => (life.kind === 'loading' ? life.exchangeEndpoint : []));
    if (!this.#loadSent && endpoints.length === this.#members.length) {
      this.#loadSent = true;
      for (const member of this.#members) this.#sendLoad(member, endpoints);
    }
    if (this.#members.every(({ life }) => life.kind === 'ready')) {
      const waiting = this.#waiting;
      this.#waiting = undefined;
      waiting?.resolve();
    }
  }

  #sendLoad(member: Member, peers: string[]): void {
    const { shardDirectory, profile, devices, timeouts } = this.#options;
    const device = devices[member.rank];
    if (device === undefined) return;
    this.#send(member, {
      kind: 'load',
      shard_directory: shardDirectory,
      profile: profile.name,
      provider: device.provider,
      device_id: device.deviceId,
      threads: device.threads,
      peers,
      // Later than the watcher's own limit, which knows which rank is to blame.
      exchange_timeout_ms: Math.ceil(timeouts.stepMs + timeouts.heartbeatMs + 1000),
    });
  }

  #send(member: Member, message: ToWorker): void {
    this.#options.server.send(member.id, encodeMessage(message)).catch((error: unknown) => {
      this.#event(member, { kind: 'given_up', error: workerFailed(member.rank, toProblem(error)) });
    });
  }

  /** Pings everyone and looks who is overdue. */
  #tick(): void {
    const { timeouts } = this.#options;
    const now = performance.now();
    const pause = now - this.#lastTick - pingInterval(timeouts);
    this.#lastTick = now;
    this.#pings += 1;
    for (const member of this.#members) {
      if (pause > pingInterval(timeouts)) member.health = excusePause(member.health, pause);
      if (isOver(member.life)) continue;
      const error = overdue(member.rank, member.life, member.health, timeouts, now);
      if (error !== undefined) this.#event(member, { kind: 'given_up', error });
      else if (member.life.kind !== 'starting') this.#send(member, { kind: 'ping', id: this.#pings });
    }
  }

  #fail(error: TandemError): void {
    if (this.#ending === undefined) this.#end({ kind: 'failed', error });
  }

  #end(ending: Ending): void {
    this.#ending = ending;
    clearInterval(this.#pinger);
    this.#torndown = this.#tearDown(ending).finally(() => {
      this.#settle();
      if (ending.kind === 'failed') for (const listener of this.#listeners) listener(ending.error);
    });
  }

  async #tearDown(ending: Ending): Promise<void> {
    await Promise.all(this.#members.map((member) => this.#endWorker(member, ending)));
    this.#options.server.close();
    await this.#options.endpoints.remove();
  }

  /**
   * Only a worker that can hear it is asked to end. Those of a failed cluster are killed: they may hang, and hold
   * nothing that must be saved.
   */
  async #endWorker(member: Member, ending: Ending): Promise<void> {
    const gently = ending.kind === 'closed' && member.life.kind !== 'starting';
    member.life = transition(member.rank, member.life, { kind: 'dismissed' }, performance.now());
    if (!gently) return member.process.endNow();
    this.#options.server.send(member.id, encodeMessage({ kind: 'shutdown' })).catch(() => undefined);
    return member.process.endGently();
  }

  #settle(): void {
    const waiting = this.#waiting;
    this.#waiting = undefined;
    waiting?.reject(this.#ending?.kind === 'failed' ? this.#ending.error : clusterClosed());
  }
}
