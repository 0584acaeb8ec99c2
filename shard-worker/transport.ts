/**
 * The one place that imports `zeromq`. Two kinds of link:
 * - control: the coordinator's ROUTER and each worker's DEALER, whose routing id is the rank;
 * - exchange: each worker listens on one PULL socket, and each peer pushes to it. Every direction of every edge thus has a
 *   socket of its own, so that a send never waits for a receive.
 */

import { timingSafeEqual } from 'node:crypto';
import { existsSync } from 'node:fs';
import { curveKeyPair, Dealer, Pull, Push, Reply, Router, type Socket } from 'zeromq';
import { TandemError } from '../common/errors.js';
import { checkEndpoint, socketPath } from './endpoints.js';
import { MAX_EXCHANGE_FRAME_BYTES } from './frames.js';
import { formatKey, keyBytes, LAUNCH_KEY_VARIABLE, type LaunchKey, parseKey } from './launch-key.js';

export const MB = 1 << 20;
/** The high-water mark counts messages: this many pieces may wait per direction. */
const EXCHANGE_PIECES_WAITING = 8;
/** Step inputs and outputs of the largest known denoisers stay under 100 MB. */
const MAX_CONTROL_FRAME_BYTES = 1024 * MB;
/** How often a worker looks for its coordinator's socket, in ms: the next coordinator waits no longer for it than that. */
const RECONNECT_MS = 20;
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

let ownKey: LaunchKey | undefined;

const launchKey = (): LaunchKey => {
  ownKey ??= parseKey(process.env[LAUNCH_KEY_VARIABLE]) ?? curveKeyPair();
  return ownKey;
};

/** What a worker needs in its environment to be let in. */
export const launchEnvironment = (): Readonly<Record<string, string>> => ({
  [LAUNCH_KEY_VARIABLE]: formatKey(launchKey()),
});

const isOpen = (endpoint: string): boolean => socketPath(endpoint) === undefined;

/** The directory of a socket file keeps others out; a port does not. */
const clientSecurity = (endpoint: string) => {
  if (!isOpen(endpoint)) return {};
  const { publicKey, secretKey } = launchKey();
  return { curveServerKey: publicKey, curvePublicKey: publicKey, curveSecretKey: secretKey };
};

const serverSecurity = (endpoint: string) =>
  isOpen(endpoint) ? { curveServer: true, curveSecretKey: launchKey().secretKey, zapDomain: 'tandem' } : {};

/** Asked by every listening socket of this process whom to let in (ZeroMQ RFC 27); there while one listens on a port. */
class Doorkeeper {
  #socket: Reply | undefined;
  #doors = 0;
  #refused = 0;

  /** Connections that were refused since the process began. */
  get refused(): number {
    return this.#refused;
  }

  async open(endpoint: string): Promise<void> {
    if (!isOpen(endpoint)) return;
    this.#doors += 1;
    if (this.#socket !== undefined) return;
    const socket = new Reply({ linger: 0 });
    this.#socket = socket;
    await socket.bind('inproc://zeromq.zap.01');
    this.#answer(socket).catch(() => undefined);
  }

  close(endpoint: string): void {
    if (!isOpen(endpoint)) return;
    this.#doors -= 1;
    if (this.#doors > 0) return;
    this.#socket?.close();
    this.#socket = undefined;
  }

  async #answer(socket: Reply): Promise<void> {
    const expected = keyBytes(launchKey().publicKey);
    for await (const [version = '', id = '', , , , mechanism, key] of socket) {
      const isKnown =
        String(mechanism) === 'CURVE' && key?.length === expected.length && timingSafeEqual(key, expected);
      if (!isKnown) this.#refused += 1;
      await socket.send([version, id, ...(isKnown ? ['200', 'OK'] : ['400', 'unknown key']), '', '']);
    }
  }
}

const doorkeeper = new Doorkeeper();

/** Connections that were refused because they did not have the launch's key. */
export const refusedConnections = (): number => doorkeeper.refused;

const inUse = (endpoint: string, cause?: unknown): TandemError =>
  new TandemError(
    'ENDPOINT_IN_USE',
    `Cannot listen on "${endpoint}": it is already in use; stop the process that holds it, remove a socket file left behind, or choose another.`,
    { cause },
  );

const hasCode = (error: unknown, code: string): boolean =>
  error instanceof Error && 'code' in error && error.code === code;

/** Binds and returns the endpoint with the port that was chosen. */
const bind = async (socket: Socket, endpoint: string): Promise<string> => {
  checkEndpoint(endpoint);
  const path = socketPath(endpoint);
  // libzmq deletes an existing socket file before it binds, which would silently cut off its owner.
  if (path !== undefined && existsSync(path)) throw inUse(endpoint);
  await doorkeeper.open(endpoint);
  try {
    await socket.bind(endpoint);
  } catch (cause) {
    doorkeeper.close(endpoint);
    if (hasCode(cause, 'EADDRINUSE')) throw inUse(endpoint, cause);
    const reason = cause instanceof Error ? cause.message : String(cause);
    throw new TandemError('ENDPOINT_INVALID', `Cannot listen on "${endpoint}": ${reason}.`, { cause });
  }
  return socket.lastEndpoint ?? endpoint;
};

/** A control frame with the routing id of the worker that sent it. */
export interface Addressed {
  readonly from: string;
  readonly frame: Buffer;
}

/** The coordinator's side of the control link. */
export class ControlServer {
  readonly #socket: Router;
  readonly #queue: SendQueue;
  #endpoint = '';

  private constructor(endpoint: string) {
    const security = serverSecurity(endpoint);
    this.#socket = new Router({ linger: GOODBYE_MS, maxMessageSize: MAX_CONTROL_FRAME_BYTES, ...security });
    this.#queue = new SendQueue(this.#socket);
  }

  /** @throws TandemError `ENDPOINT_IN_USE`, `ENDPOINT_INVALID`, `ENDPOINT_TOO_LONG`, `ENDPOINT_NOT_LOCAL` */
  static async listen(endpoint: string): Promise<ControlServer> {
    const server = new ControlServer(endpoint);
    try {
      server.#endpoint = await bind(server.#socket, endpoint);
    } catch (error) {
      server.close();
      throw error;
    }
    return server;
  }

  get endpoint(): string {
    return this.#endpoint;
  }

  /** Listens at the same place again, where somebody has removed its socket; workers that are connected stay so. */
  async relisten(): Promise<void> {
    if (socketPath(this.#endpoint) !== undefined) await bind(this.#socket, this.#endpoint);
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
    if (this.#endpoint !== '') doorkeeper.close(this.#endpoint);
    this.#endpoint = '';
    this.#socket.close();
  }
}

/** A worker's side of the control link. */
export class ControlClient {
  readonly #socket: Dealer;
  readonly #queue: SendQueue;

  /** @throws TandemError `ENDPOINT_INVALID`, `ENDPOINT_TOO_LONG`, `ENDPOINT_NOT_LOCAL` */
  constructor(endpoint: string, routingId: string) {
    checkEndpoint(endpoint);
    this.#socket = new Dealer({
      routingId,
      linger: GOODBYE_MS,
      reconnectInterval: RECONNECT_MS,
      maxMessageSize: MAX_CONTROL_FRAME_BYTES,
      ...clientSecurity(endpoint),
    });
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
  #endpoint = '';

  private constructor(endpoint: string) {
    this.#socket = new Pull({
      linger: 0,
      receiveHighWaterMark: EXCHANGE_PIECES_WAITING,
      maxMessageSize: MAX_EXCHANGE_FRAME_BYTES,
      ...serverSecurity(endpoint),
    });
  }

  /** @throws TandemError `ENDPOINT_IN_USE`, `ENDPOINT_INVALID`, `ENDPOINT_TOO_LONG`, `ENDPOINT_NOT_LOCAL` */
  static async listen(endpoint: string): Promise<ExchangeInbox> {
    const inbox = new ExchangeInbox(endpoint);
    try {
      inbox.#endpoint = await bind(inbox.#socket, endpoint);
    } catch (error) {
      inbox.close();
      throw error;
    }
    return inbox;
  }

  get endpoint(): string {
    return this.#endpoint;
  }

  /** Header and payload of each piece, in order per sender. Ends when the inbox is closed. */
  async *pieces(): AsyncGenerator<readonly Buffer[]> {
    yield* this.#socket;
  }

  close(): void {
    if (this.#endpoint !== '') doorkeeper.close(this.#endpoint);
    this.#endpoint = '';
    this.#socket.close();
  }
}

/** The way to one peer's inbox. */
export class ExchangeOutbox {
  readonly #socket: Push;
  readonly #queue: SendQueue;

  /** @throws TandemError `ENDPOINT_INVALID`, `ENDPOINT_TOO_LONG`, `ENDPOINT_NOT_LOCAL` */
  constructor(endpoint: string) {
    checkEndpoint(endpoint);
    const security = clientSecurity(endpoint);
    this.#socket = new Push({ linger: GOODBYE_MS, sendHighWaterMark: EXCHANGE_PIECES_WAITING, ...security });
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
