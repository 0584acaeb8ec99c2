/**
 * The workers of a cluster: their processes, the messages to and from them, and the watch over them. A group gets itself
 * ready, whatever its members have loaded already, runs steps, and reports losses; what to do about a loss is its owner's
 * decision.
 */
import { TandemError } from '../../common/errors.js';
import { Rarely } from '../../common/rarely.js';
import { systemError } from '../../common/system-errors.js';
import type { HostTensor } from '../../common/tensor.js';
import type { LoaderChoice } from '../../shard-worker/loader.js';
import type { FromWorker, ToWorker } from '../../shard-worker/protocol.js';
import type { ControlServer } from '../../shard-worker/transport.js';
import { decodeFromWorker, toProblem } from '../../shard-worker/wire.js';
import { ControlLine } from './control-line.js';
import { workerFailed } from './errors.js';
import { whatToLoad } from './load-order.js';
import { LoadProgress } from './load-progress.js';
import {
  adoptMember,
  infoOf,
  type Member,
  type MemberOptions,
  registrationOf,
  removeSocket,
  standingOf,
  startMember,
} from './member.js';
import { isWhole, nextOrders, type Order } from './orders.js';
import type { ClusterNetwork, RankStep, StepOptions, WorkerDevice, WorkerInfo } from './types.js';
import { excusePause, overdue, pingInterval, type Timeouts } from './watch.js';
import { endGently, endNow } from './worker-handle.js';
import { afterLook, afterMessage, isOver, type LifeEvent, transition } from './worker-life.js';

export interface GroupOptions extends MemberOptions {
  /** The denoiser first. */
  readonly networks: readonly ClusterNetwork[];
  /** Index is the rank. */
  readonly devices: readonly WorkerDevice[];
  readonly timeouts: Timeouts;
  readonly loader: LoaderChoice;
  readonly server: ControlServer;
  readonly onProgress: (stage: string, done: number, total: number) => void;
  readonly onNotice: (message: string) => void;
  /** Every worker is loaded, connected and idle: after a start, a step or a replacement. */
  readonly onIdle: () => void;
  /** A worker is lost; it has no part in the group until it is replaced. */
  readonly onLost: (loss: Loss) => void;
  /** The control socket itself has failed. */
  readonly onBroken: (error: TandemError) => void;
}

export interface Loss {
  readonly rank: number;
  readonly error: TandemError;
  /** Whether it was to be taken over from an earlier coordinator and never came so far. */
  readonly refused: boolean;
}

/** How often a worker is asked for its challenge until it answers, in ms. */
const ATTACH_MS = 20;

/** Longer ones overflow, and are over at once. */
const MAX_TIMER_MS = 2 ** 31 - 1;

export class Group {
  readonly #options: GroupOptions;
  readonly #members: Member[];
  readonly #restarts: number[];
  /** Ids of workers that were replaced: what is still on its way from them is no news. */
  readonly #retired = new Set<string>();
  readonly #strangers: Rarely;
  readonly #line: ControlLine;
  readonly #loadProgress = new LoadProgress();
  readonly #pinger: NodeJS.Timeout;
  readonly #attacher: NodeJS.Timeout;
  /** Rises when a worker is replaced: all others must then be given its address. */
  #generation = 0;
  #lastTick = performance.now();
  #pings = 0;
  #steps = 0;
  #results: RankStep[] = [];
  #ended = false;

  /** Starts or takes over all workers. */
  constructor(options: GroupOptions) {
    const { devices, timeouts, detached } = options;
    this.#options = options;
    this.#strangers = new Rarely(options.onNotice);
    this.#line = new ControlLine(options.server, detached);
    this.#restarts = devices.map(() => 0);
    this.#members = devices.map((_, rank) => this.#begin(rank));
    this.#register();
    this.#pinger = setInterval(() => this.#tick(), pingInterval(timeouts));
    this.#attacher = setInterval(() => this.#knock(), ATTACH_MS);
    if (detached === undefined) clearInterval(this.#attacher);
    this.#listen().catch((cause: unknown) => {
      options.onBroken(
        new TandemError('CLUSTER_CONTROL', 'The control socket failed; launch a new cluster.', { cause }),
      );
    });
  }

  /** Index is the rank. */
  get workers(): readonly WorkerInfo[] {
    return this.#members.map((member) => infoOf(member, this.#restarts[member.rank] ?? 0));
  }

  /** Where those that are well listen for their peers. */
  get listening(): readonly string[] {
    return this.#members.flatMap(({ life, endpoint, exchange }) =>
      isOver(life) || endpoint === undefined ? [] : [exchange],
    );
  }

  /** How many workers were started in place of lost ones. */
  get restarts(): number {
    return this.#restarts.reduce((sum, count) => sum + count, 0);
  }

  /** The ranks' parts in the last step, once it is finished, by rank. */
  get results(): readonly RankStep[] {
    return this.#results.toSorted((a, b) => a.rank - b.rank);
  }

  /** Sends a step to the workers that run a network; all workers must be idle. */
  step(
    microBatches: readonly Readonly<Record<string, HostTensor>>[],
    network: ClusterNetwork,
    options: StepOptions,
  ): void {
    this.#steps += 1;
    this.#results = [];
    const { name, members } = network;
    const { trace = false } = options;
    const micro_batches = microBatches.map((inputs) => ({ ...inputs }));
    for (const member of this.#members.filter(({ rank }) => members.includes(rank))) {
      const want_outputs = member.rank === members[0] || options.outputs === 'all';
      this.#event(member, { kind: 'step_sent', step: this.#steps });
      member.health = { ...member.health, progressAt: performance.now() };
      this.#send(member, { kind: 'step', id: this.#steps, network: name, micro_batches, want_outputs, trace });
    }
  }

  /** Gives up the step under way. */
  interrupt(): void {
    this.#results = [];
    for (const member of this.#members) this.#event(member, { kind: 'interrupted' });
  }

  /** Ends what is left of a lost worker. */
  async bury(rank: number): Promise<void> {
    const member = this.#members[rank];
    if (member !== undefined) await endNow(member.process);
  }

  /** Ends all workers, those too that are well. */
  async buryAll(): Promise<void> {
    await Promise.all(this.#members.map(({ rank }) => this.bury(rank)));
  }

  replaceAll(counts: boolean): void {
    for (const { rank } of this.#members) this.replace(rank, counts);
  }

  /** Starts a worker in place of a buried one; the others keep what they have loaded. */
  replace(rank: number, counts: boolean): void {
    const lost = this.#members[rank];
    if (lost === undefined || this.#ended) return;
    this.#retired.add(lost.id);
    removeSocket(lost, this.#options);
    this.#generation += 1;
    if (counts) this.#restarts[rank] = (this.#restarts[rank] ?? 0) + 1;
    this.#members[rank] = this.#watch(startMember(rank, this.#options));
    this.#register();
  }

  /** Ends all workers; `gently` asks those that can hear it first. Resolves when they are gone. */
  async end(gently: boolean): Promise<void> {
    this.#ended = true;
    clearInterval(this.#pinger);
    clearInterval(this.#attacher);
    await Promise.all(this.#members.map((member) => this.#endMember(member, gently)));
  }

  #begin(rank: number): Member {
    const { detached, networks } = this.#options;
    const worker = detached?.runtime.found.find((candidate) => candidate.rank === rank);
    if (detached === undefined || worker === undefined) return this.#watch(startMember(rank, this.#options));
    const wanted = {
      networks: networks
        .filter(({ members }) => members.includes(rank))
        .map(({ name, manifestSha256, profile }) => ({
          name,
          manifest_sha256: manifestSha256,
          profile: profile.name,
        })),
    };
    return this.#watch(adoptMember(worker, detached.runtime, this.#line.session, wanted));
  }

  #watch(member: Member): Member {
    member.process.link?.listen((frame) => this.#receive(member, frame));
    member.process.ended.then((exit) => this.#event(member, { kind: 'exited', exit, stderr: member.process.stderr }));
    return member;
  }

  /** Where that cannot be written, as on a full disk, workers are only not found again by the next coordinator. */
  #register(): void {
    const { detached, onNotice } = this.#options;
    const found = this.#members.flatMap((member) => registrationOf(member) ?? []);
    try {
      detached?.runtime.register(found);
    } catch (error) {
      const refused = systemError(error);
      if (refused === undefined) throw error;
      onNotice(`${refused.message} Should this process be lost, its workers are not found again.`);
    }
  }

  async #listen(): Promise<void> {
    for await (const { from, frame } of this.#options.server.messages()) {
      const member = this.#members.find((candidate) => candidate.id === from);
      if (member !== undefined) this.#receive(member, frame);
      else if (!this.#retired.has(from))
        this.#strangers.add(
          (count) =>
            `Ignored ${frame.byteLength} bytes from a stranger on the control socket; ${count} messages of strangers so far.`,
        );
    }
  }

  #receive(member: Member, frame: Buffer): void {
    if (this.#ended || isOver(member.life)) return;
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

  #note(member: Member, message: FromWorker): void {
    const { rank, life } = member;
    if (message.kind === 'hello' && (life.kind === 'starting' || life.kind === 'attaching'))
      this.#greet(member, message);
    if (message.kind === 'challenge' && life.kind === 'attaching' && message.session === this.#line.session)
      this.#attach(member, message.challenge);
    if (message.kind === 'progress') {
      const { done, total } = this.#loadProgress.add(rank, message.phase, message.done, message.total);
      this.#options.onProgress(message.phase, done, total);
    }
    if (message.kind === 'step_done' && life.kind === 'stepping' && life.step === message.id) {
      const { outputs_sha256, times, memory, outputs, trace } = message;
      member.steps += 1;
      const asked = { ...(outputs ? { outputs } : {}), ...(trace ? { trace } : {}) };
      this.#results.push({ rank, outputs_sha256, times, memory, ...asked });
    }
  }

  #greet(member: Member, hello: Extract<FromWorker, { kind: 'hello' }>): void {
    if (member.life.kind === 'attaching' && member.life.session !== hello.session) return;
    member.endpoint = hello.exchange_endpoint;
    if (member.life.kind === 'starting') this.#line.seal(member, hello.challenge);
    member.exchangeKey = hello.exchange_key;
    member.memory = hello.exchange_memory;
    member.steps = hello.loaded?.steps ?? 0;
    // A rank that is gone may have begun one step more than those that are left.
    if (hello.last_step !== undefined) this.#steps = Math.max(this.#steps, hello.last_step + 1);
  }

  /** Everything that happens to a worker passes here: the new life decides what to do. */
  #event(member: Member, event: LifeEvent): void {
    const before = member.life;
    if (this.#ended || isOver(before)) return;
    member.life = transition(member.rank, before, event, performance.now());
    if (member.life.kind === 'failed')
      this.#options.onLost({ rank: member.rank, error: member.life.error, refused: before.kind === 'attaching' });
    else this.#advance();
  }

  /** Sends the orders that are due, and says so when there is nothing left to do. */
  #advance(): void {
    for (const order of nextOrders(this.#members.map(standingOf), this.#generation)) this.#order(order);
    if (isWhole(this.#members.map(standingOf), this.#generation)) this.#options.onIdle();
  }

  #order(order: Order): void {
    const member = this.#members[order.rank];
    if (member === undefined) return;
    member.generation = this.#generation;
    const { stepMs, heartbeatMs } = this.#options.timeouts;
    const group = {
      peers: [...order.peers],
      ...(order.memories.length > 0 ? { memories: [...order.memories] } : {}),
      ...(order.keys.length > 0 ? { peer_keys: [...order.keys] } : {}),
      // Later than the watcher's own limit, which knows which rank is to blame.
      exchange_timeout_ms: Math.min(MAX_TIMER_MS, Math.ceil(stepMs + heartbeatMs + 1000)),
      after_step: this.#steps,
    };
    switch (order.kind) {
      case 'load':
        this.#sendLoad(member, group);
        return;
      case 'reset':
        member.health = { ...member.health, progressAt: performance.now() };
        this.#send(member, { kind: 'reset', generation: this.#generation, ...group });
        member.life = transition(
          member.rank,
          member.life,
          { kind: 'reset_sent', generation: this.#generation },
          performance.now(),
        );
        return;
      default:
        order.kind satisfies never;
    }
  }

  #sendLoad(member: Member, group: Omit<Extract<ToWorker, { kind: 'reset' }>, 'kind' | 'generation'>): void {
    const { networks, devices, loader } = this.#options;
    const device = devices[member.rank];
    if (device === undefined) return;
    this.#send(member, { kind: 'load', ...whatToLoad(networks, device, loader, member.process.link), ...group });
  }

  #send(member: Member, message: ToWorker): void {
    this.#line.send(member, message).catch((error: unknown) => {
      this.#event(member, { kind: 'given_up', error: workerFailed(member.rank, toProblem(error)) });
    });
  }

  #knock(): void {
    const attaching = this.#members.filter(({ life }) => life.kind === 'attaching');
    if (attaching.length === 0) clearInterval(this.#attacher);
    for (const member of attaching) if (member.seal === undefined) this.#send(member, this.#line.knock);
  }

  #attach(member: Member, challenge: string): void {
    const order = this.#line.attach(member, challenge);
    if (order !== undefined) this.#send(member, order);
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
      member.health = afterLook(member.health, member.process.isStopped, now);
      const error = overdue(member.rank, member.life, member.health, timeouts, now);
      if (error !== undefined) this.#event(member, { kind: 'given_up', error });
      else if (member.life.kind !== 'starting' && member.life.kind !== 'attaching')
        this.#send(member, { kind: 'ping', id: this.#pings });
    }
  }

  /**
   * Only a worker that can hear it is asked to end. Those of a failed cluster are killed: they may hang, and hold
   * nothing that must be saved.
   */
  async #endMember(member: Member, gently: boolean): Promise<void> {
    const { kind } = member.life;
    const hears = gently && kind !== 'starting' && kind !== 'attaching' && kind !== 'failed';
    member.life = transition(member.rank, member.life, { kind: 'dismissed' }, performance.now());
    if (!hears) return endNow(member.process);
    this.#line.send(member, { kind: 'shutdown' }).catch(() => undefined);
    return endGently(member.process);
  }
}
