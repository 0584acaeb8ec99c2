/**
 * The worker process: owns the sockets, answers the coordinator, and leaves all computing to the compute thread, so that a
 * ping is answered at once even while a segment runs. Started by the coordinator as
 *
 *     node main.js --rank 0 --control ipc:///dir/control.sock --exchange ipc:///dir/0-Xy3_a.sock
 *
 * with `--shared-memory` where it is to exchange through that, `--kept` where its starter gives it from one coordinator to the next and, for a worker that waits for the next coordinator when this one is
 * gone, with `--detached /dir --keep-warm-ms 600000`.
 */
import { parseArgs } from 'node:util';
import { TandemError } from '../common/errors.js';
import { STEP_ABANDONED } from './abandoned.js';
import { watchSegments } from './canary.js';
import { ownDirectEndpoint } from './direct-sockets/address.js';
import { endNow, endWithCoordinator, Patience } from './lifetime.js';
import { MemoryWatch } from './memory.js';
import { assign } from './part.js';
import {
  type FromWorker,
  PROTOCOL_VERSION,
  type ToWorker,
  WORKER_ID_VARIABLE,
  WORKER_TOKEN_VARIABLE,
} from './protocol.js';
import { type ExchangeWays, type LoadOrder, type LoadResult, Rank, type ResetOrder, type StepOrder } from './rank.js';
import { hasToken } from './runtime-files.js';
import { scrub } from './scrub.js';
import { SealBreaker } from './seal.js';
import { ownMemory } from './shared-memory/address.js';
import { ControlClient, ExchangeInbox } from './transport.js';
import { decodeToWorker, encodeMessage, toProblem } from './wire.js';

const CLOSE_MS = 1000;
/** Progress is for people: more often than this nobody can read it. */
const PROGRESS_MS = 100;

interface Arguments {
  readonly rank: number;
  readonly control: string;
  readonly exchange: string;
  readonly sharesMemory: boolean;
  /** Whether it may be given from one coordinator to the next by whoever started it. */
  readonly isKept: boolean;
  /** Where there is one, the worker outlives its coordinator. */
  readonly detached?: Detached;
}

interface Detached {
  readonly directory: string;
  readonly keepWarmMs: number;
}

const readArguments = (): Arguments => {
  const text = { type: 'string' } as const;
  const { values } = parseArgs({
    options: {
      rank: text,
      control: text,
      exchange: text,
      'shared-memory': { type: 'boolean' },
      kept: { type: 'boolean' },
      detached: text,
      'keep-warm-ms': text,
    },
  });
  const { rank, control, exchange, detached: directory } = values;
  if (rank === undefined || !/^\d+$/.test(rank) || control === undefined || exchange === undefined) {
    throw new TandemError(
      'WORKER_ARGUMENTS',
      'Expected --rank N --control ENDPOINT --exchange ENDPOINT; the coordinator starts workers by itself.',
    );
  }
  const keepWarmMs = Number(values['keep-warm-ms'] ?? 0);
  return {
    rank: Number(rank),
    control,
    exchange,
    sharesMemory: values['shared-memory'] ?? false,
    isKept: values.kept ?? false,
    ...(directory === undefined ? {} : { detached: { directory, keepWarmMs } }),
  };
};

/** What makes a worker detached: whom it obeys, and how long it waits. */
interface Detachment {
  readonly orders: SealBreaker;
  readonly patience: Patience;
}

type Attach = Extract<ToWorker, { kind: 'attach' }>;

class Worker {
  readonly #control: ControlClient;
  readonly #rank: Rank;
  readonly #ways: ExchangeWays;
  readonly #detachment: Detachment | undefined;
  readonly #isKept: boolean;
  readonly #memory = new MemoryWatch();
  #loaded: (LoadResult & { readonly load_ms: number }) | undefined;
  #steps = 0;
  #lastStep = 0;
  #session: string | undefined;
  #resets: Promise<void> = Promise.resolve();
  #lastProgress = 0;
  #closing = false;

  constructor({ rank, isKept }: Arguments, control: ControlClient, ways: ExchangeWays, detachment?: Detachment) {
    this.#control = control;
    this.#detachment = detachment;
    this.#isKept = isKept;
    this.#ways = ways;
    this.#rank = new Rank(rank, ways, (phase, done, total) => this.#report(phase, done, total));
  }

  /** Answers the coordinator until it says `shutdown`. */
  async serve(): Promise<void> {
    this.#say(this.#hello());
    for await (const frame of this.#control.messages()) {
      const message = this.#detachment === undefined ? this.#read(frame) : this.#readSealed(frame, this.#detachment);
      if (message?.kind === 'shutdown') return this.#shutdown();
      if (message !== undefined) this.#answer(message);
    }
  }

  #hello(): Extract<FromWorker, { kind: 'hello' }> {
    const { inbox, memory, direct } = this.#ways;
    return {
      kind: 'hello',
      rank: this.#rank.rank,
      pid: process.pid,
      protocol_version: PROTOCOL_VERSION,
      exchange_endpoint: direct ?? inbox.endpoint,
      ...(inbox.key === undefined ? {} : { exchange_key: inbox.key }),
      ...(this.#detachment ? { challenge: this.#detachment.orders.challenge } : {}),
      ...(memory ? { exchange_memory: memory.address } : {}),
    };
  }

  /** Without a seal that shows the token, a coordinator may only ask what to seal. */
  #readSealed(frame: Uint8Array, { orders, patience }: Detachment): ToWorker | undefined {
    const opened = orders.open(frame);
    const message = this.#read(opened ?? frame);
    if (opened !== undefined) patience.heard();
    else if (message !== undefined && message.kind !== 'knock') {
      this.#fail(
        new TandemError('WORKER_TOKEN', `Expected "${message.kind}" to be sealed with the token, found none.`),
      );
      return undefined;
    }
    return message;
  }

  #read(frame: Uint8Array): ToWorker | undefined {
    try {
      return decodeToWorker(frame);
    } catch (error) {
      this.#say({ kind: 'failed', error: toProblem(error) });
      return undefined;
    }
  }

  /** Loads, steps and resets go on in the background, so that the next message is read at once. */
  #answer(message: Exclude<ToWorker, { kind: 'shutdown' }>): void {
    switch (message.kind) {
      case 'ping':
        this.#say({ kind: 'pong', id: message.id, progress: this.#rank.progress, awaiting: [...this.#rank.awaiting] });
        return;
      case 'knock':
        this.#answerKnock(message.session);
        return;
      case 'attach':
        this.#attach(message);
        return;
      case 'load':
        this.#orFail(this.#load(message));
        return;
      case 'step':
        this.#orFail(this.#step(message));
        return;
      case 'reset':
        this.#resets = this.#resets.then(() => this.#reset(message)).catch((error: unknown) => this.#fail(error));
        return;
      default:
        message satisfies never;
    }
  }

  /** A coordinator repeats its `knock` until it is heard. */
  #answerKnock(session: string): void {
    const orders = this.#detachment?.orders;
    if (orders !== undefined) this.#say({ kind: 'challenge', session, challenge: orders.challenge });
    else this.#fail(new TandemError('WORKER_TOKEN', 'A worker that ends with its coordinator is not taken over.'));
  }

  /** What was asked for twice is answered once. */
  #attach({ session, keep_warm_ms }: Attach): void {
    if (session === this.#session) return;
    if (this.#detachment === undefined && !this.#isKept) {
      this.#fail(new TandemError('WORKER_TOKEN', 'A worker that ends with its coordinator is not taken over.'));
      return;
    }
    this.#session = session;
    this.#detachment?.patience.keepWarm(keep_warm_ms);
    const loaded = this.#loaded;
    this.#say({
      ...this.#hello(),
      session,
      last_step: this.#lastStep,
      ...(loaded ? { loaded: { ...loaded, steps: this.#steps, memory: this.#memory.sample() } } : {}),
    });
  }

  async #load(order: LoadOrder): Promise<void> {
    const start = performance.now();
    const loaded = await this.#rank.load(order);
    const load_ms = performance.now() - start;
    this.#loaded = { ...loaded, load_ms };
    this.#detachment?.patience.loaded();
    this.#say({ kind: 'loaded', load_ms, weight_bytes: loaded.weight_bytes, memory: this.#memory.sample() });
    this.#orEnd(Promise.race([this.#scrub(order), watchSegments(this.#rank)]));
  }

  /** Files that cannot be read any more say nothing of what is mapped from them. */
  async #scrub(order: LoadOrder): Promise<never> {
    const assignment = await assign(order, this.#rank.rank).catch(() => undefined);
    await scrub(assignment?.parts ?? []).catch((error: unknown) => {
      if (error instanceof TandemError) throw error;
    });
    return new Promise<never>(() => undefined);
  }

  async #step(order: StepOrder): Promise<void> {
    this.#lastStep = Math.max(this.#lastStep, order.id);
    const { outputs, outputs_sha256, times, trace } = await this.#rank.step(order);
    this.#steps += 1;
    const memory = this.#memory.sample();
    this.#say({
      kind: 'step_done',
      id: order.id,
      ...(order.want_outputs ? { outputs: outputs.map((tensors) => ({ ...tensors })) } : {}),
      outputs_sha256,
      times,
      ...(trace ? { trace: [...trace] } : {}),
      memory,
    });
  }

  async #reset(order: ResetOrder): Promise<void> {
    await this.#rank.reset(order);
    this.#say({ kind: 'reset_done', generation: order.generation, memory: this.#memory.sample() });
  }

  #orFail(work: Promise<void>): void {
    work.catch((error: unknown) => this.#fail(error));
  }

  /** A worker that computes what it should not is of no use to the next coordinator either. */
  #orEnd(watch: Promise<never>): void {
    watch.catch((error: unknown) => {
      if (this.#closing) return;
      this.#fail(error);
      setTimeout(endNow, CLOSE_MS).unref();
    });
  }

  /** An abandoned step is the coordinator's own wish. */
  #fail(error: unknown): void {
    const problem = toProblem(error);
    if (problem.code !== STEP_ABANDONED) this.#say({ kind: 'failed', error: problem });
  }

  #report(phase: 'check' | 'load', done: number, total: number): void {
    const now = performance.now();
    if (now - this.#lastProgress < PROGRESS_MS && done < total) return;
    this.#lastProgress = now;
    this.#say({ kind: 'progress', phase, done, total });
  }

  #say(message: FromWorker): void {
    // The link only fails when this process is about to end: then nobody is left to tell.
    this.#control.send(encodeMessage(message)).catch(() => undefined);
  }

  async #shutdown(): Promise<void> {
    this.#closing = true;
    this.#memory.stop();
    const idle = await this.#rank.close(CLOSE_MS);
    await this.#control.send(encodeMessage({ kind: 'bye' })).catch(() => undefined);
    this.#control.close();
    if (!idle) endNow();
    process.exit(0);
  }
}

/** Ties the life of a detached worker to its patience. */
const detach = (exchange: string, token: string, { directory, keepWarmMs }: Detached): Detachment => ({
  orders: new SealBreaker(token),
  patience: new Patience({ directory, token, exchange }, keepWarmMs),
});

/**
 * What a detached worker was started with, if its directory is still the one that it was started for.
 * @throws TandemError `WORKER_TOKEN`
 */
const ownToken = ({ directory }: Detached): string => {
  const token = process.env[WORKER_TOKEN_VARIABLE] ?? '';
  if (hasToken(directory, token)) return token;
  throw new TandemError(
    'WORKER_TOKEN',
    `Expected "${directory}" to have the token that this worker was started with; it was removed, or is another coordinator's by now.`,
  );
};

const start = async (): Promise<void> => {
  // Ctrl-C reaches the whole process group; the coordinator decides when its workers end.
  process.on('SIGINT', () => undefined);
  const given = readArguments();
  const { detached, exchange } = given;
  const token = detached === undefined ? '' : ownToken(detached);
  if (detached === undefined) endWithCoordinator([exchange, given.control]);
  const inbox = await ExchangeInbox.listen(exchange);
  const detachment = detached && detach(exchange, token, detached);
  const id = process.env[WORKER_ID_VARIABLE] ?? String(given.rank);
  const direct = given.sharesMemory ? undefined : ownDirectEndpoint(inbox.endpoint);
  const ways = { inbox, ...(given.sharesMemory ? { memory: ownMemory() } : {}), ...(direct && { direct }) };
  await new Worker(given, new ControlClient(given.control, id), ways, detachment).serve();
};

start().catch((error: unknown) => {
  const { code, message } = toProblem(error);
  process.stderr.write(`${code}: ${message}\n`, () => process.exit(1));
});
