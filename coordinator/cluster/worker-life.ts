/**
 * The life of a worker as the coordinator sees it, as data with pure transitions:
 *
 *     starting -> loading -> ready <-> stepping
 *         any of these -> failed, or -> closed when the coordinator wants it so
 *
 * When the group loses another worker, and when a worker is taken over from an earlier coordinator:
 *
 *     stepping -> interrupted -> resetting -> ready
 *     attaching -> ready -> resetting -> ready
 */
import type { TandemError } from '../../common/errors.js';
import { type FromWorker, type LoadedNetwork, type Memory, PROTOCOL_VERSION } from '../../shard-worker/protocol.js';
import { type Exit, workerDied, workerFailed, workerNotAdopted, workerNotStarted, workerOutOfTurn } from './errors.js';

/** What a worker reported when it was loaded. */
export interface Loaded {
  readonly weight_bytes: number;
  readonly load_ms: number;
}

/** What a worker must have loaded to be taken over. */
export interface Wanted {
  /** The networks that its rank has a part in, in their order. */
  readonly networks: readonly LoadedNetwork[];
}

/** Times are `performance.now()`, in ms. */
export type WorkerLife =
  | { readonly kind: 'starting'; readonly since: number }
  | { readonly kind: 'attaching'; readonly since: number; readonly session: string; readonly wanted: Wanted }
  | { readonly kind: 'loading'; readonly since: number; readonly exchangeEndpoint: string }
  | { readonly kind: 'ready'; readonly loaded: Loaded }
  | { readonly kind: 'stepping'; readonly loaded: Loaded; readonly step: number }
  /** Its step cannot be finished; what it still says of it counts for nothing. */
  | { readonly kind: 'interrupted'; readonly loaded: Loaded }
  | { readonly kind: 'resetting'; readonly loaded: Loaded; readonly generation: number }
  | { readonly kind: 'failed'; readonly error: TandemError }
  | { readonly kind: 'closed' };

/** What can happen to a worker: a message from it, an order to it, or its end. */
export type LifeEvent =
  | { readonly kind: 'message'; readonly message: FromWorker }
  | { readonly kind: 'step_sent'; readonly step: number }
  | { readonly kind: 'interrupted' }
  | { readonly kind: 'reset_sent'; readonly generation: number }
  | { readonly kind: 'exited'; readonly exit: Exit; readonly stderr: readonly string[] }
  | { readonly kind: 'given_up'; readonly error: TandemError }
  | { readonly kind: 'dismissed' };

/** A new worker's life. */
export const born = (now: number): WorkerLife => ({ kind: 'starting', since: now });

/** The life of a worker that an earlier coordinator started. */
export const found = (now: number, session: string, wanted: Wanted): WorkerLife => ({
  kind: 'attaching',
  since: now,
  session,
  wanted,
});

/** What a worker has loaded, as long as it is of use. */
export const loadedOf = (life: WorkerLife): Loaded | undefined => {
  switch (life.kind) {
    case 'ready':
    case 'stepping':
    case 'interrupted':
    case 'resetting':
      return life.loaded;
    case 'starting':
    case 'attaching':
    case 'loading':
    case 'failed':
    case 'closed':
      return undefined;
    default:
      return life satisfies never;
  }
};

/** Whether nothing more can happen to this worker. */
export const isOver = (life: WorkerLife): boolean => life.kind === 'failed' || life.kind === 'closed';

type Hello = Extract<FromWorker, { kind: 'hello' }>;
type Attaching = Extract<WorkerLife, { kind: 'attaching' }>;

const whyNotWanted = (rank: number, { wanted }: Attaching, hello: Hello): string | undefined => {
  const { loaded } = hello;
  if (hello.protocol_version !== PROTOCOL_VERSION) return `speaks protocol version ${hello.protocol_version}`;
  if (hello.rank !== rank) return `is rank ${hello.rank}`;
  if (loaded === undefined) return 'has not loaded its shard';
  return whyOtherNetworks(wanted.networks, loaded.networks);
};

const whyOtherNetworks = (wanted: readonly LoadedNetwork[], loaded: readonly LoadedNetwork[]): string | undefined => {
  const names = (networks: readonly LoadedNetwork[]): string => networks.map(({ name }) => name).join(', ');
  if (names(wanted) !== names(loaded)) return `has loaded ${names(loaded)}`;
  if (wanted.some((network, index) => network.manifest_sha256 !== loaded[index]?.manifest_sha256))
    return 'has loaded other shards';
  const other = loaded.find(({ profile }, index) => profile !== wanted[index]?.profile);
  return other === undefined ? undefined : `has loaded profile "${other.profile}"`;
};

/** What was said to an earlier coordinator still arrives: only the answer to this one's `attach` counts. */
const onMessageWhileAttaching = (rank: number, life: Attaching, message: FromWorker): WorkerLife => {
  if (message.kind !== 'hello' || message.session !== life.session) return life;
  const why = whyNotWanted(rank, life, message);
  if (why !== undefined || message.loaded === undefined)
    return { kind: 'failed', error: workerNotAdopted(rank, why ?? 'has loaded nothing') };
  const { weight_bytes, load_ms } = message.loaded;
  return { kind: 'ready', loaded: { weight_bytes, load_ms } };
};

const onHello = (rank: number, life: WorkerLife, hello: Hello, now: number): WorkerLife => {
  if (life.kind !== 'starting') return outOfTurn(rank, life, hello.kind);
  if (hello.rank === rank && hello.protocol_version === PROTOCOL_VERSION) {
    // Another host has kept one for this.
    if (hello.loaded !== undefined) {
      const { weight_bytes, load_ms } = hello.loaded;
      return { kind: 'ready', loaded: { weight_bytes, load_ms } };
    }
    return { kind: 'loading', since: now, exchangeEndpoint: hello.exchange_endpoint };
  }
  const found = `rank ${hello.rank} with protocol version ${hello.protocol_version}, expected version ${PROTOCOL_VERSION}`;
  return outOfTurn(rank, life, `hello of ${found}`);
};

const outOfTurn = (rank: number, life: WorkerLife, message: string): WorkerLife => ({
  kind: 'failed',
  error: workerOutOfTurn(rank, message, life.kind),
});

const onStepDone = (
  rank: number,
  life: WorkerLife,
  message: Extract<FromWorker, { kind: 'step_done' }>,
): WorkerLife => {
  // It had finished before it heard that others could not.
  if (life.kind === 'interrupted' || life.kind === 'resetting') return life;
  if (life.kind !== 'stepping' || life.step !== message.id) return outOfTurn(rank, life, message.kind);
  return { kind: 'ready', loaded: life.loaded };
};

const onResetDone = (rank: number, life: WorkerLife, generation: number): WorkerLife =>
  life.kind === 'resetting' && life.generation === generation
    ? { kind: 'ready', loaded: life.loaded }
    : outOfTurn(rank, life, 'reset_done');

const onMessage = (rank: number, life: WorkerLife, message: FromWorker, now: number): WorkerLife => {
  if (life.kind === 'attaching') return onMessageWhileAttaching(rank, life, message);
  switch (message.kind) {
    case 'hello':
      return onHello(rank, life, message, now);
    case 'loaded':
      if (life.kind !== 'loading') return outOfTurn(rank, life, message.kind);
      return { kind: 'ready', loaded: { weight_bytes: message.weight_bytes, load_ms: message.load_ms } };
    case 'step_done':
      return onStepDone(rank, life, message);
    case 'reset_done':
      return onResetDone(rank, life, message.generation);
    case 'failed':
      return { kind: 'failed', error: workerFailed(rank, message.error) };
    case 'progress':
    case 'pong':
    case 'challenge':
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
    case 'interrupted':
      return life.kind === 'stepping' ? { kind: 'interrupted', loaded: life.loaded } : life;
    case 'reset_sent':
      if (life.kind !== 'ready' && life.kind !== 'interrupted') return outOfTurn(rank, life, event.kind);
      return { kind: 'resetting', loaded: life.loaded, generation: event.generation };
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
  /** Since when its process is seen stopped. */
  readonly stoppedAt: number | undefined;
}

export const newborn = (now: number): Health => ({
  heardAt: now,
  progress: 0,
  progressAt: now,
  awaiting: [],
  memory: { private_bytes: 0, peak_private_bytes: 0, mapped_bytes: 0 },
  stoppedAt: undefined,
});

/** A worker's health after a look at its process. */
export const afterLook = (health: Health, isStopped: boolean, now: number): Health => ({
  ...health,
  stoppedAt: isStopped ? (health.stoppedAt ?? now) : undefined,
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
    case 'reset_done':
      return { ...health, progressAt: now, awaiting: [], memory: message.memory };
    case 'hello':
      return { ...health, memory: message.loaded?.memory ?? health.memory };
    case 'progress':
    case 'challenge':
    case 'failed':
    case 'bye':
      return health;
    default:
      return message satisfies never;
  }
};
