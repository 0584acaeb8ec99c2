/**
 * The one place that imports `zeromq`. Two kinds of link:
 * - control: the coordinator's ROUTER and each worker's DEALER, whose routing id is the rank;
 * - exchange: each worker listens on one PULL socket, and each peer pushes to it. Every direction of every edge thus has a
 *   socket of its own, so that a send never waits for a receive.
 */

import { existsSync } from 'node:fs';
import { setTimeout as delay } from 'node:timers/promises';
import { curveKeyPair, Dealer, Pull, Push, Reply, Router, type Socket } from 'zeromq';
import { TandemError } from '../common/errors.js';
import { Doorkeeper, type GuestList, Guests, type Refusal } from './doors.js';
import { checkEndpoint, socketPath } from './endpoints.js';
import { MAX_EXCHANGE_FRAME_BYTES } from './frames.js';
import { formatWorkerKeys, type KeyPair, parseWorkerKeys, WORKER_KEYS_VARIABLE } from './keys.js';

export const MB = 1 << 20;
/** The high-water mark counts messages: this many pieces may wait per direction. */
const EXCHANGE_PIECES_WAITING = 8;
/** Step inputs and outputs of the largest known denoisers stay under 100 MB. */
const MAX_CONTROL_FRAME_BYTES = 1024 * MB;
/** How often a worker looks for its coordinator's socket, in ms: the next coordinator waits no longer for it than that. */
const RECONNECT_MS = 20;
/** Between hosts, ZeroMQ's own thread asks the other one for an answer; ms. */
const HEARTBEAT_MS = 500;
const SILENCE_MS = 2000;
/** How long a closing socket keeps trying to deliver its last messages, in ms. */
const GOODBYE_MS = 500;

/** zeromq allows one pending send per socket: this lines them up. */
class SendQueue {
  readonly #socket: { send(frames: Uint8Array[]): Promise<void> };
  #tail: Promise<void> = Promise.resolve();

  constructor(socket: { send(frames: Uint8Array[]): Promise<void> }) {
    this.#socket = socket;
  }

  send(frames: Uint8Array[]): Promise<void> {
    const sent = this.#tail.then(() => this.#socket.send(frames));
    this.#tail = sent.catch(() => undefined);
    return sent;
  }
}

const givenKeys = parseWorkerKeys(process.env[WORKER_KEYS_VARIABLE]);
let madeKeys: KeyPair | undefined;

/** A key pair that nobody else has. */
export const makeKeys = (): KeyPair => curveKeyPair();

/** This process's own: what it was given at its start, or made. */
export const ownKeys = (): KeyPair => {
  if (givenKeys !== undefined) return givenKeys;
  madeKeys ??= makeKeys();
  return madeKeys;
};

/** What a worker needs in its environment to be let in where its key is listed. */
export const workerEnvironment = (keys: KeyPair): Readonly<Record<string, string>> => ({
  [WORKER_KEYS_VARIABLE]: formatWorkerKeys({ ...keys, serverKey: ownKeys().publicKey }),
});

const isOpen = (endpoint: string): boolean => socketPath(endpoint) === undefined;

/** The directory of a socket file keeps others out; a port does not. */
const clientSecurity = (endpoint: string, serverKey: string, { publicKey, secretKey } = ownKeys()) =>
  isOpen(endpoint) ? { curveServerKey: serverKey, curvePublicKey: publicKey, curveSecretKey: secretKey } : {};

const hasCode = (error: unknown, code: string): boolean =>
  error instanceof Error && 'code' in error && error.code === code;

/** Where ZeroMQ asks; the name of a socket that was closed is free a moment later. */
const ZAP = 'inproc://zeromq.zap.01';
const ZAP_FREE_MS = 2_000;

const doorkeeper = new Doorkeeper(async () => {
  const socket = new Reply({ linger: 0 });
  const since = performance.now();
  for (;;) {
    try {
      await socket.bind(ZAP);
      return socket;
    } catch (error) {
      if (!hasCode(error, 'EADDRINUSE') || performance.now() - since > ZAP_FREE_MS) throw error;
    }
    await delay(5);
  }
});

/** Connections that were refused because their key was on no list. */
export const refusedConnections = (): number => doorkeeper.refused;

const serverSecurity = (endpoint: string, { domain }: Guests, { secretKey } = ownKeys()) =>
  isOpen(endpoint) ? { curveServer: true, curveSecretKey: secretKey, zapDomain: domain } : {};

const inUse = (endpoint: string, cause?: unknown): TandemError =>
  new TandemError(
    'ENDPOINT_IN_USE',
    `Cannot listen on "${endpoint}": it is already in use; stop the process that holds it, remove a socket file left behind, or choose another.`,
    { cause },
  );

const notInUse = (endpoint: string): void => {
  const path = socketPath(endpoint);
  // libzmq deletes an existing socket file before it binds, which would silently cut off its owner.
  if (path !== undefined && existsSync(path)) throw inUse(endpoint);
};

const notBound = (endpoint: string, cause: unknown): TandemError => {
  if (hasCode(cause, 'EADDRINUSE')) return inUse(endpoint, cause);
  const reason = cause instanceof Error ? cause.message : String(cause);
  return new TandemError('ENDPOINT_INVALID', `Cannot listen on "${endpoint}": ${reason}.`, { cause });
};

/** Binds and returns the endpoint with the port that was chosen. */
const bind = async (socket: Socket, endpoint: string, guests: Guests, refusal: Refusal): Promise<string> => {
  notInUse(endpoint);
  if (isOpen(endpoint)) await doorkeeper.open(guests.domain, { guests: (key) => guests.has(key), refusal });
  try {
    await socket.bind(endpoint);
  } catch (cause) {
    doorkeeper.close(guests.domain);
    throw notBound(endpoint, cause);
  }
  return socket.lastEndpoint ?? endpoint;
};

/** Binds a socket that is in use to a file; at once, since one that is being bound can neither send nor receive (`EBUSY`). */
const bindAgain = (socket: Socket, endpoint: string): void => {
  notInUse(endpoint);
  try {
    socket.bindSync(endpoint);
  } catch (cause) {
    throw notBound(endpoint, cause);
  }
};

/** A control frame with the routing id of the worker that sent it. */
export interface Addressed {
  readonly from: string;
  readonly frame: Buffer;
}

/** A door with a key of its own and a list that its owner keeps, for those that others started. */
export interface PublicDoor {
  readonly keys: KeyPair;
  readonly guests: GuestList;
  /** Whether a key that is not listed yet may come again; else its holder is told that it is not wanted. */
  readonly isPatient?: boolean;
}

export interface ControlOptions {
  readonly maxFrameBytes?: number;
  readonly door?: PublicDoor;
}

/** The coordinator's side of the control link. */
export class ControlServer {
  readonly #socket: Router;
  readonly #queue: SendQueue;
  readonly #guests: Guests;
  readonly #refusal: Refusal;
  #endpoint = '';

  private constructor(endpoint: string, { maxFrameBytes = MAX_CONTROL_FRAME_BYTES, door }: ControlOptions) {
    this.#guests = new Guests(ownKeys().publicKey, door?.guests);
    this.#refusal = door === undefined || door.isPatient ? '300' : '400';
    const security = serverSecurity(endpoint, this.#guests, door?.keys);
    this.#socket = new Router({ linger: GOODBYE_MS, maxMessageSize: maxFrameBytes, ...security });
    this.#queue = new SendQueue(this.#socket);
  }

  /** @throws TandemError `ENDPOINT_IN_USE`, `ENDPOINT_INVALID`, `ENDPOINT_TOO_LONG`, `ENDPOINT_NOT_LOCAL` */
  static async listen(endpoint: string, options: ControlOptions = {}): Promise<ControlServer> {
    checkEndpoint(endpoint, options.door !== undefined);
    const server = new ControlServer(endpoint, options);
    try {
      server.#endpoint = await bind(server.#socket, endpoint, server.#guests, server.#refusal);
    } catch (error) {
      server.close();
      throw error;
    }
    return server;
  }

  /** Lets the holder of a key in, where this is a port. */
  admit(publicKey: string): void {
    this.#guests.add(publicKey);
  }

  /** Lets the holder of a key in no more; who is in stays. */
  dismiss(publicKey: string): void {
    this.#guests.remove(publicKey);
  }

  get endpoint(): string {
    return this.#endpoint;
  }

  /** Listens at the same place again, where somebody has removed its socket; workers that are connected stay so. */
  relisten(): void {
    if (socketPath(this.#endpoint) !== undefined) bindAgain(this.#socket, this.#endpoint);
  }

  /** Frames to a worker that is gone are dropped: its exit is seen elsewhere. */
  send(to: string, frame: Uint8Array): Promise<void> {
    return this.#queue.send([Buffer.from(to), frame]);
  }

  /** Ends when the server is closed. */
  async *messages(): AsyncGenerator<Addressed> {
    for await (const [from, frame] of this.#socket) {
      if (from !== undefined) yield { from: from.toString(), frame: frame ?? Buffer.alloc(0) };
    }
  }

  close(): void {
    doorkeeper.close(this.#guests.domain);
    this.#socket.close();
  }
}

/** A peer that closes in the midst of a handshake could not read what was sealed with the key that it should have. */
const tellUnheard = ({ events }: Socket, tell: (why: Unheard) => void): void => {
  events.on('handshake:error:auth', () => tell('unlisted'));
  events.on('handshake:error:other', () => tell('other-key'));
  events.on('handshake:error:protocol', () => tell('other-key'));
  events.on('disconnect', () => tell('absent'));
};

/** Why a leader cannot be talked to: it does not list this key, it has another key itself, or it is not there. */
export type Unheard = 'unlisted' | 'other-key' | 'absent';

export interface ClientOptions {
  /** Public key of the one that listens; the one that started this process where absent. */
  readonly serverKey?: string;
  readonly keys?: KeyPair;
  /** Told of each attempt that came to nothing. */
  readonly onUnheard?: (why: Unheard) => void;
}

/** A worker's side of the control link. */
export class ControlClient {
  readonly #socket: Dealer;
  readonly #queue: SendQueue;

  /** @throws TandemError `ENDPOINT_INVALID`, `ENDPOINT_TOO_LONG`, `ENDPOINT_NOT_LOCAL` */
  constructor(endpoint: string, routingId: string, { serverKey, keys, onUnheard }: ClientOptions = {}) {
    checkEndpoint(endpoint, serverKey !== undefined);
    this.#socket = new Dealer({
      routingId,
      linger: GOODBYE_MS,
      reconnectInterval: RECONNECT_MS,
      maxMessageSize: MAX_CONTROL_FRAME_BYTES,
      ...clientSecurity(endpoint, serverKey ?? givenKeys?.serverKey ?? ownKeys().publicKey, keys),
    });
    if (onUnheard !== undefined) {
      // Between hosts a cable may end a connection, and nobody is told.
      Object.assign(this.#socket, { heartbeatInterval: HEARTBEAT_MS, heartbeatTimeout: SILENCE_MS });
      tellUnheard(this.#socket, onUnheard);
    }
    this.#socket.connect(endpoint);
    this.#queue = new SendQueue(this.#socket);
  }

  send(frame: Uint8Array): Promise<void> {
    return this.#queue.send([frame]);
  }

  /** Ends when the client is closed. */
  async *messages(): AsyncGenerator<Buffer> {
    for await (const [frame] of this.#socket) yield frame ?? Buffer.alloc(0);
  }

  close(): void {
    this.#socket.close();
  }
}

/** Where a rank's peers push their tensors. */
export class ExchangeInbox {
  readonly #socket: Pull;
  readonly #guests = new Guests(ownKeys().publicKey);
  #endpoint = '';

  private constructor(endpoint: string) {
    this.#socket = new Pull({
      linger: 0,
      receiveHighWaterMark: EXCHANGE_PIECES_WAITING,
      maxMessageSize: MAX_EXCHANGE_FRAME_BYTES,
      ...serverSecurity(endpoint, this.#guests),
    });
  }

  /** @throws TandemError `ENDPOINT_IN_USE`, `ENDPOINT_INVALID`, `ENDPOINT_TOO_LONG`, `ENDPOINT_NOT_LOCAL` */
  static async listen(endpoint: string): Promise<ExchangeInbox> {
    checkEndpoint(endpoint, givenKeys !== undefined);
    const inbox = new ExchangeInbox(endpoint);
    try {
      inbox.#endpoint = await bind(inbox.#socket, endpoint, inbox.#guests, '300');
    } catch (error) {
      inbox.close();
      throw error;
    }
    return inbox;
  }

  get endpoint(): string {
    return this.#endpoint;
  }

  /** Public key that peers must know it by; undefined where its directory keeps others out. */
  get key(): string | undefined {
    return isOpen(this.#endpoint) ? ownKeys().publicKey : undefined;
  }

  /** Lets the holders of these keys in, and nobody else any more; who is in stays. */
  admit(publicKeys: readonly string[]): void {
    this.#guests.replace(publicKeys);
  }

  /** Header and payload of each piece, in order per sender. Ends when the inbox is closed. */
  async *pieces(): AsyncGenerator<readonly Buffer[]> {
    yield* this.#socket;
  }

  close(): void {
    doorkeeper.close(this.#guests.domain);
    this.#socket.close();
  }
}

/** The way to one peer's inbox. */
export class ExchangeOutbox {
  readonly #socket: Push;
  readonly #queue: SendQueue;

  /**
   * @param serverKey the peer's public key; this process's own where absent
   * @throws TandemError `ENDPOINT_INVALID`, `ENDPOINT_TOO_LONG`, `ENDPOINT_NOT_LOCAL`
   */
  constructor(endpoint: string, serverKey?: string) {
    checkEndpoint(endpoint, serverKey !== undefined);
    const security = clientSecurity(endpoint, serverKey ?? ownKeys().publicKey);
    this.#socket = new Push({
      linger: GOODBYE_MS,
      reconnectInterval: RECONNECT_MS,
      sendHighWaterMark: EXCHANGE_PIECES_WAITING,
      ...security,
    });
    this.#queue = new SendQueue(this.#socket);
    this.#socket.connect(endpoint);
  }

  /** Resolves once queued. `payload` must not change until its receiver has it: it is not copied. */
  send(header: Uint8Array, payload: Uint8Array): Promise<void> {
    return this.#queue.send([header, payload]);
  }

  close(): void {
    this.#socket.close();
  }
}
