/** One rank: its networks, its exchange with the peers, and the steps that it runs with them. */
import { createHash } from 'node:crypto';
import { TandemError } from '../common/errors.js';
import { checkProvider } from '../common/onnxruntime.js';
import { byteLength, type TensorSpec } from '../common/tensor.js';
import type { Profile } from '../partition/write/manifest.js';
import { stepAbandoned } from './abandoned.js';
import type { Carrier } from './carrier.js';
import { ComputePool } from './compute-pool.js';
import type { Tensors } from './compute-protocol.js';
import { DirectSocketCarrier } from './direct-socket-carrier.js';
import { checkEndpoint } from './endpoints.js';
import { tensorProblems } from './inputs.js';
import { assign, type LoadOrder, openPart, type Part, partBytes } from './part.js';
import type { JoinedProgram } from './program.js';
import { type Count, ProgressSum } from './progress-sum.js';
import type { LoadedNetwork, StepTimes, ToWorker } from './protocol.js';
import type { TraceEvent } from './recorder.js';
import type { OwnMemory } from './shared-memory/address.js';
import { SharedMemoryCarrier } from './shared-memory-carrier.js';
import { SocketCarrier } from './socket-carrier.js';
import { ThreadStatus } from './thread-status.js';
import type { ExchangeInbox } from './transport.js';

export type { LoadOrder } from './part.js';
export type ResetOrder = Extract<ToWorker, { kind: 'reset' }>;
export type StepOrder = Extract<ToWorker, { kind: 'step' }>;
export type OnProgress = (phase: 'check' | 'load', done: number, total: number) => void;

export interface RankResult {
  /** Index is the micro-batch. */
  readonly outputs: readonly Tensors[];
  readonly outputs_sha256: string;
  readonly times: StepTimes;
  readonly trace?: readonly TraceEvent[];
}

/** What was loaded. */
export interface LoadResult {
  readonly networks: LoadedNetwork[];
  readonly weight_bytes: number;
}

/** A part and, once that has begun, its opening. */
interface OpenablePart {
  readonly part: Part;
  opening: Promise<void> | undefined;
}

export interface ExchangeWays {
  readonly inbox: ExchangeInbox;
  readonly memory?: OwnMemory;
  /** Where the compute thread listens itself; what is sent to `inbox` is then nobody's. */
  readonly direct?: string;
}

/** The way to the peers, once everything is loaded. */
interface Connected {
  readonly carrier: Carrier;
  readonly status: ThreadStatus;
}

const MB = 1 << 20;

const digestOf = (specs: readonly TensorSpec[], microBatches: readonly Tensors[]): string => {
  const hash = createHash('sha256');
  for (const tensors of microBatches) for (const { name } of specs) hash.update(tensors[name]?.data ?? '');
  return hash.digest('hex');
};

const sum = (numbers: readonly number[]): number => numbers.reduce((total, number) => total + number, 0);

/** A rank that is being loaded or is ready to step. */
export class Rank {
  readonly rank: number;
  readonly #compute = new ComputePool();
  readonly #inbox: ExchangeInbox;
  readonly #memory: OwnMemory | undefined;
  readonly #direct: string | undefined;
  readonly #onProgress: OnProgress;
  #order: LoadOrder | undefined;
  #parts: ReadonlyMap<string, OpenablePart> = new Map();
  #connected: Connected | undefined;
  readonly #segments: number[] = [];
  readonly #checked = new ProgressSum();
  readonly #opened = new ProgressSum();
  #progress = 0;
  /** Settles when the step under way has ended, in whatever way. */
  #running: Promise<unknown> | undefined;

  /** @param ways over which this rank can exchange with its peers */
  constructor(rank: number, { inbox, memory, direct }: ExchangeWays, onProgress: OnProgress) {
    this.rank = rank;
    this.#inbox = inbox;
    this.#memory = memory;
    this.#direct = direct;
    this.#onProgress = onProgress;
  }

  /** Rises with every checked megabyte and every opened or finished segment. */
  get progress(): number {
    return this.#progress + (this.#connected?.status.progress ?? 0);
  }

  get awaiting(): readonly number[] {
    return this.#connected?.carrier.awaiting ?? [];
  }

  /**
   * Checks the files of the rank's networks, opens their segments and connects to the peers.
   * @throws TandemError of `check.ts`, `PROVIDER_UNAVAILABLE`, `PROVIDER_DEVICE`, `SEGMENT_OPEN`, `SHARD_WORLD_SIZE`
   */
  async load(order: LoadOrder): Promise<LoadResult> {
    if (this.#order) throw new TandemError('PROTOCOL_ORDER', 'Expected one "load" per worker, found a second one.');
    this.#order = order;
    checkProvider(order.provider, order.device_id);
    for (const [rank, peer] of order.peers.entries()) checkEndpoint(peer, order.peer_keys?.[rank] !== undefined);
    this.#inbox.admit(order.peer_keys ?? []);
    const { program, parts } = await assign(order, this.rank);
    this.#parts = new Map(parts.map((part) => [part.network.name, { part, opening: undefined }]));
    const ahead = [...this.#parts.values()].filter(({ part }) => !part.onDemand);
    for (const { part } of ahead) this.#expect(part);
    const failed = (await Promise.allSettled(ahead.map((one) => this.#open(one)))).find(
      (result) => result.status === 'rejected',
    );
    if (failed) throw failed.reason;
    await this.#connect(order, program);
    return { networks: parts.map(({ network }) => network), weight_bytes: sum(parts.map(partBytes)) };
  }

  /**
   * Runs a network once for each micro-batch, together with the peers; one that is loaded on demand is opened first.
   * @throws TandemError `PROTOCOL_ORDER`, those of `load`, `STEP_INPUTS`, `SEGMENT_RUN`, `EXCHANGE_TIMEOUT`, `EXCHANGE_FRAME`, `STEP_ABANDONED`
   */
  async step(order: StepOrder): Promise<RankResult> {
    const ready = this.#ready();
    const openable = this.#partOf(order.network);
    const problems = order.micro_batches.flatMap((inputs) => tensorProblems(openable.part.profile.inputs, inputs));
    if (problems.length > 0)
      throw new TandemError('STEP_INPUTS', `Step inputs do not fit the profile: ${problems.join('; ')}.`, { problems });
    const running = this.#open(openable).then(() => this.#run(order, openable.part, ready));
    this.#running = running.then(
      () => undefined,
      () => undefined,
    );
    try {
      return await running;
    } catch (error) {
      // A step that is called off may end in many ways.
      throw ready.status.isAbandoned ? stepAbandoned() : error;
    } finally {
      this.#running = undefined;
    }
  }

  /** Numbers of the segments that are open. */
  get loaded(): readonly number[] {
    return this.#segments;
  }

  /**
   * Runs a segment by itself, between steps.
   * @returns a digest of what it computes; undefined where it cannot be run by itself
   * @throws TandemError `SEGMENT_RUN`
   */
  async rehearse(segment: number): Promise<string | undefined> {
    await this.#running;
    return this.#compute.rehearse({ index: segment });
  }

  /**
   * Abandons the step under way, if there is one, and connects to the peers anew; what is loaded stays. A running segment
   * cannot be interrupted: it is waited for.
   * @throws TandemError `PROTOCOL_ORDER`, `SHARD_WORLD_SIZE`, those of `checkEndpoint`
   */
  async reset(order: ResetOrder): Promise<void> {
    const { carrier, status } = this.#loaded('reset');
    const expected = this.#order?.peers.length;
    if (order.peers.length !== expected)
      throw new TandemError(
        'SHARD_WORLD_SIZE',
        `Expected ${expected} peers, as in "load"; found ${order.peers.length}.`,
      );
    for (const [rank, peer] of order.peers.entries()) checkEndpoint(peer, order.peer_keys?.[rank] !== undefined);
    this.#inbox.admit(order.peer_keys ?? []);
    status.setAbandoned(true);
    carrier.abandon(order.after_step);
    await this.#running;
    await carrier.connect(order);
    status.setAbandoned(false);
  }

  /** @returns false if a segment was still running after `timeoutMs` */
  async close(timeoutMs: number): Promise<boolean> {
    this.#connected?.status.setAbandoned(true);
    this.#connected?.carrier.close();
    return this.#compute.close(timeoutMs);
  }

  /** Connects the compute thread to the peers for the first time. */
  async #connect(order: LoadOrder, program: JoinedProgram): Promise<void> {
    const status = ThreadStatus.forRanks(order.peers.length);
    const carrier = this.#carrier(order, program, status);
    await carrier.connect(order);
    this.#connected = { carrier, status };
  }

  #carrier(order: LoadOrder, program: JoinedProgram, status: ThreadStatus): Carrier {
    const afterStep = order.after_step ?? 0;
    const common = { rank: this.rank, compute: this.#compute, status };
    if (this.#memory !== undefined && order.memories !== undefined)
      return new SharedMemoryCarrier({ ...common, fd: this.#memory.fd, program });
    if (this.#direct !== undefined)
      return new DirectSocketCarrier({ ...common, endpoint: this.#direct, program, afterStep });
    return new SocketCarrier({ ...common, profile: program, inbox: this.#inbox, afterStep });
  }

  #loaded(order: string): Connected {
    if (this.#connected === undefined) throw new TandemError('PROTOCOL_ORDER', `Expected "load" before "${order}".`);
    return this.#connected;
  }

  #ready(): Connected {
    const connected = this.#loaded('step');
    if (this.#running) throw new TandemError('PROTOCOL_ORDER', 'Expected one step at a time, found a second one.');
    return connected;
  }

  #partOf(network: string): OpenablePart {
    const found = this.#parts.get(network);
    if (found !== undefined) return found;
    const names = [...this.#parts.keys()].map((name) => `"${name}"`).join(', ');
    throw new TandemError(
      'PROTOCOL_NETWORK',
      `Expected a step of ${names}, which rank ${this.rank} has; found one of "${network}".`,
    );
  }

  /** Counts a part's work before it begins, so that progress never goes back. */
  #expect(part: Part): void {
    this.#checked.set(part.network.name, { done: 0, total: partBytes(part) });
    this.#opened.set(part.network.name, { done: 0, total: part.segments.length });
  }

  /** Opens a part, once. */
  #open(openable: OpenablePart): Promise<void> {
    const { part } = openable;
    openable.opening ??= openPart(part, {
      order: this.#loadOrder(),
      compute: this.#compute,
      onChecked: this.#onChecked(part),
      onOpened: (done, total) => {
        this.#progress += 1;
        this.#segments.push(part.first + done - 1);
        this.#tell('load', this.#opened.set(part.network.name, { done, total }));
      },
    });
    return openable.opening;
  }

  #loadOrder(): LoadOrder {
    if (this.#order === undefined)
      throw new TandemError('PROTOCOL_ORDER', 'Expected "load" before anything is opened.');
    return this.#order;
  }

  #onChecked(part: Part): (done: number, total: number) => void {
    let reported = 0;
    return (done, total) => {
      const megabytes = Math.floor(done / MB);
      if (megabytes === reported && done < total) return;
      this.#progress += megabytes - reported;
      reported = megabytes;
      this.#tell('check', this.#checked.set(part.network.name, { done, total }));
    };
  }

  #tell(phase: 'check' | 'load', { done, total }: Count): void {
    this.#onProgress(phase, done, total);
  }

  async #run(order: StepOrder, { profile, segments, first }: Part, { carrier }: Connected): Promise<RankResult> {
    const start = performance.now();
    const { outputs, computeMs, exchangeMs, sentBytes, copiedBytes, trace } = await this.#compute.step({
      id: order.id,
      first,
      count: segments.length,
      microBatches: order.micro_batches,
      inputs: profile.inputs,
      outputs: profile.outputs.map(({ name }) => name),
      trace: order.trace ?? false,
    });
    carrier.stepEnded();
    for (const tensors of outputs) this.#checkOutputs(profile, tensors);
    const times = {
      total_ms: performance.now() - start,
      compute_ms: computeMs,
      exchange_ms: exchangeMs,
      sent_bytes: sentBytes,
      copied_bytes: copiedBytes,
    };
    return { outputs, outputs_sha256: digestOf(profile.outputs, outputs), times, ...(trace && { trace }) };
  }

  #checkOutputs(profile: Profile, outputs: Tensors): void {
    const wrong = profile.outputs.filter((spec) => outputs[spec.name]?.data.byteLength !== byteLength(spec));
    if (wrong.length === 0) return;
    throw new TandemError(
      'STEP_OUTPUTS',
      `Outputs ${wrong.map(({ name }) => `"${name}"`).join(', ')} do not have the size that the manifest gives.`,
    );
  }
}
