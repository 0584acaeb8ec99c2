/**
 * The life of a worker as the coordinator sees it, as data with pure transitions:
 *
 *     starting -> loading -> ready <-> stepping
 *         any of these -> failed, or -> closed when the coordinator wants it so
 */
import type { TandemError } from '../../partition/errors.js';
import { type FromWorker, type Memory, PROTOCOL_VERSION } from '../../shard-worker/protocol.js';
import { type Exit, workerDied, workerFailed, workerNotStarted, workerOutOfTurn } from './errors.js';

/** What a worker reported when it was loaded. */
export interface Loaded {
  readonly weight_bytes: number;
  readonly load_ms: number;
}

/** Times are `performance.now()`, in ms. */
export type WorkerLife =
  | { readonly kind: 'starting'; readonly since: number }
  | { readonly kind: 'loading'; readonly since: number; readonly exchangeEndpoint: string }
  | { readonly kind: 'ready'; readonly loaded: Loaded }
  | { readonly kind: 'stepping'; readonly loaded: Loaded; readonly step: number }
  | { readonly kind: 'failed'; readonly error: TandemError }
  | { readonly kind: 'closed' };

/** What can happen to a worker: a message from it, an order to it, or its end. */
export type LifeEvent =
  | { readonly kind: 'message'; readonly message: FromWorker }
  | { readonly kind: 'step_sent'; readonly step: number }
  | { readonly kind: 'exited'; readonly exit: Exit; readonly stderr: readonly string[] }
  | { readonly kind: 'given_up'; readonly error: TandemError }
  | { readonly kind: 'dismissed' };

/** A new worker's life. */
export const born = (now: number): WorkerLife => ({ kind: 'starting', since: now });

/** Whether nothing more can happen to this worker. */
export const isOver = (life: WorkerLife): boolean => life.kind === 'failed' || life.kind === 'closed';

const onHello = (
  rank: number,
  life: WorkerLife,
  hello: Extract<FromWorker, { kind: 'hello' }>,
  now: number,
): WorkerLife => {
  if (life.kind !== 'starting') return outOfTurn(rank, life, hello.kind);
  if (hello.rank === rank && hello.protocol_version === PROTOCOL_VERSION) {
    return { kind: 'loading', since: now, exchangeEndpoint: hello.exchange_endpoint };
  }
  const found = `rank ${hello.rank} with protocol version ${hello.protocol_version}, expected version ${PROTOCOL_VERSION}`;
  return outOfTurn(rank, life, `hello of ${found}`);
};

const outOfTurn = (rank: number, life: WorkerLife, message: string): WorkerLife => ({
  kind: 'failed',
  error: workerOutOfTurn(rank, message, life.kind),
});

const onMessage = (rank: number, life: WorkerLife, message: FromWorker, now: number): WorkerLife => {
  switch (message.kind) {
    case 'hello':
      return onHello(rank, life, message, now);
    case 'loaded':
      if (life.kind !== 'loading') return outOfTurn(rank, life, message.kind);
      return { kind: 'ready', loaded: { weight_bytes: message.weight_bytes, load_ms: message.load_ms } };
    case 'step_done':
      if (life.kind !== 'stepping' || life.step !== message.id) return outOfTurn(rank, life, message.kind);
      return { kind: 'ready', loaded: life.loaded };
    case 'failed':
      return { kind: 'failed', error: workerFailed(rank, message.error) };
    case 'progress':
    case 'pong':
      return life;
    case 'bye':
      return outOfTurn(rank, life, message.kind);
    default:
      return message satisfies never;
  }
};

/** The next life of rank `rank` after an event. Once over, a life stays as it is. */
export const transition = (rank: number, life: WorkerLife, event: LifeEvent, now: number): WorkerLife => {
  if (isOver(life)) return life;
  switch (event.kind) {
    case 'message':
      return onMessage(rank, life, event.message, now);
    case 'step_sent':
      if (life.kind !== 'ready') return outOfTurn(rank, life, event.kind);
      return { kind: 'stepping', loaded: life.loaded, step: event.step };
    case 'exited': {
      const end = life.kind === 'starting' ? workerNotStarted : workerDied;
      return { kind: 'failed', error: end(rank, event.exit, event.stderr) };
    }
    case 'given_up':
      return { kind: 'failed', error: event.error };
    case 'dismissed':
      return { kind: 'closed' };
    default:
      return event satisfies never;
  }
};

/** What a worker last said of itself. */
export interface Health {
  /** When the worker was last heard of. */
  readonly heardAt: number;
  /** Its own count of work done, and when that last rose. */
  readonly progress: number;
  readonly progressAt: number;
  /** Ranks whose tensors it waits for. */
  readonly awaiting: readonly number[];
  readonly memory: Memory;
}

export const newborn = (now: number): Health => ({
  heardAt: now,
  progress: 0,
  progressAt: now,
  awaiting: [],
  memory: { private_bytes: 0, peak_private_bytes: 0 },
});

const withProgress = (health: Health, progress: number, awaiting: readonly number[], now: number): Health => ({
  ...health,
  progress,
  awaiting,
  progressAt: progress > health.progress ? now : health.progressAt,
});

/** A worker's health after one of its messages. */
export const afterMessage = (before: Health, message: FromWorker, now: number): Health => {
  const health = { ...before, heardAt: now };
  switch (message.kind) {
    case 'pong':
      return withProgress(health, message.progress, message.awaiting, now);
    case 'loaded':
    case 'step_done':
      return { ...health, progressAt: now, awaiting: [], memory: message.memory };
    case 'hello':
    case 'progress':
    case 'failed':
    case 'bye':
      return health;
    default:
      return message satisfies never;
  }
};
