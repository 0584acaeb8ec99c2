/**
 * The worker process: owns the sockets, answers the coordinator, and leaves all computing to the compute thread, so that a
 * ping is answered at once even while a segment runs. Started by the coordinator as
 *
 *     node main.js --rank 0 --control ipc:///dir/control.sock --exchange ipc:///dir/rank-0.sock
 */
import { parseArgs } from 'node:util';
import { TandemError } from '../partition/errors.js';
import { endNow, endWithCoordinator } from './lifetime.js';
import { MemoryWatch } from './memory.js';
import { type FromWorker, PROTOCOL_VERSION, type ToWorker, WORKER_ID_VARIABLE } from './protocol.js';
import { type LoadOrder, Rank, type StepOrder } from './rank.js';
import { ControlClient, ExchangeInbox } from './transport.js';
import { decodeToWorker, encodeMessage, toProblem } from './wire.js';

const CLOSE_MS = 1000;
/** Progress is for people: more often than this nobody can read it. */
const PROGRESS_MS = 100;

interface Arguments {
  readonly rank: number;
  readonly control: string;
  readonly exchange: string;
}

const readArguments = (): Arguments => {
  const { values } = parseArgs({
    options: { rank: { type: 'string' }, control: { type: 'string' }, exchange: { type: 'string' } },
  });
  const { rank, control, exchange } = values;
  if (rank === undefined || !/^\d+$/.test(rank) || control === undefined || exchange === undefined) {
    throw new TandemError(
      'WORKER_ARGUMENTS',
      'Expected --rank N --control ENDPOINT --exchange ENDPOINT; the coordinator starts workers by itself.',
    );
  }
  return { rank: Number(rank), control, exchange };
};

class Worker {
  readonly #control: ControlClient;
  readonly #rank: Rank;
  readonly #memory = new MemoryWatch();
  #lastProgress = 0;

  constructor(rank: number, control: ControlClient, inbox: ExchangeInbox) {
    this.#control = control;
    this.#rank = new Rank(rank, inbox, (phase, done, total) => this.#report(phase, done, total));
  }

  /** Answers the coordinator until it says `shutdown`. */
  async serve(exchangeEndpoint: string): Promise<void> {
    this.#say({
      kind: 'hello',
      rank: this.#rank.rank,
      pid: process.pid,
      protocol_version: PROTOCOL_VERSION,
      exchange_endpoint: exchangeEndpoint,
    });
    for await (const frame of this.#control.messages()) {
      const message = this.#read(frame);
      if (message?.kind === 'shutdown') return this.#shutdown();
      if (message !== undefined) this.#answer(message);
    }
  }

  #read(frame: Uint8Array): ToWorker | undefined {
    try {
      return decodeToWorker(frame);
    } catch (error) {
      this.#say({ kind: 'failed', error: toProblem(error) });
      return undefined;
    }
  }

  /** Loads and steps go on in the background, so that the next message is read at once. */
  #answer(message: Exclude<ToWorker, { kind: 'shutdown' }>): void {
    switch (message.kind) {
      case 'ping':
        this.#say({ kind: 'pong', id: message.id, progress: this.#rank.progress, awaiting: [...this.#rank.awaiting] });
        return;
      case 'load':
        this.#orFail(this.#load(message));
        return;
      case 'step':
        this.#orFail(this.#step(message));
        return;
      default:
        message satisfies never;
    }
  }

  async #load(order: LoadOrder): Promise<void> {
    const start = performance.now();
    const weight_bytes = await this.#rank.load(order);
    this.#say({ kind: 'loaded', load_ms: performance.now() - start, weight_bytes, memory: this.#memory.sample() });
  }

  async #step(order: StepOrder): Promise<void> {
    const { outputs, outputs_sha256, times } = await this.#rank.step(order);
    const memory = this.#memory.sample();
    this.#say({
      kind: 'step_done',
      id: order.id,
      ...(order.want_outputs ? { outputs: { ...outputs } } : {}),
      outputs_sha256,
      times,
      memory,
    });
  }

  #orFail(work: Promise<void>): void {
    work.catch((error: unknown) => this.#say({ kind: 'failed', error: toProblem(error) }));
  }

  #report(phase: 'check' | 'load' | 'step', done: number, total: number): void {
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
    this.#memory.stop();
    const idle = await this.#rank.close(CLOSE_MS);
    await this.#control.send(encodeMessage({ kind: 'bye' })).catch(() => undefined);
    this.#control.close();
    if (!idle) endNow();
    process.exit(0);
  }
}

const start = async (): Promise<void> => {
  // Ctrl-C reaches the whole process group; the coordinator decides when its workers end.
  process.on('SIGINT', () => undefined);
  const { rank, control, exchange } = readArguments();
  endWithCoordinator([exchange, control]);
  const inbox = await ExchangeInbox.listen(exchange);
  const id = process.env[WORKER_ID_VARIABLE] ?? String(rank);
  await new Worker(rank, new ControlClient(control, id), inbox).serve(inbox.endpoint);
};

start().catch((error: unknown) => {
  const { code, message } = toProblem(error);
  process.stderr.write(`${code}: ${message}\n`, () => process.exit(1));
});
