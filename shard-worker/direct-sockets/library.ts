/**
 * ZeroMQ without an event loop: the functions of the very libzmq that `zeromq` has in it, called from the compute thread, which may wait
 * in them (Linux). `zeromq` itself cannot be loaded in a second thread, so the library is taken as the process already has it.
 */
import { readFileSync } from 'node:fs';
import { TandemError } from '../../common/errors.js';
import { openLibrary } from '../native.js';

// zmq.h
const PULL = 7;
const PUSH = 8;
const LINGER = 17;
const RECONNECT_IVL = 18;
const MAXMSGSIZE = 22;
const SNDHWM = 23;
const RCVHWM = 24;
const DONTWAIT = 1;
const SNDMORE = 2;
const POLLIN = 1;
/** `zmq_pollitem_t`: socket, file descriptor, events, what happened. */
const POLL_ITEM_BYTES = 16;

type Handle = bigint;

interface Functions {
  readonly newContext: () => Handle;
  readonly newSocket: (context: Handle, type: number) => Handle;
  readonly setOption: (socket: Handle, option: number, value: Uint8Array, bytes: number) => number;
  readonly bind: (socket: Handle, endpoint: string) => number;
  readonly connect: (socket: Handle, endpoint: string) => number;
  readonly close: (socket: Handle) => number;
  readonly send: (socket: Handle, data: Uint8Array, bytes: number, flags: number) => number;
  readonly receive: (socket: Handle, data: Uint8Array, bytes: number, flags: number) => number;
  readonly poll: (items: Uint8Array, count: number, ms: number) => number;
  readonly errno: () => number;
  readonly message: (errno: number) => string;
}

/** Where the addon's file lies that this process has loaded. */
const addonPath = (): string => {
  const maps = readFileSync('/proc/self/maps', 'utf8');
  const path = /^\S+ r\S* .*?(\/\S.*zeromq\/build\/.*\.node)$/m.exec(maps)?.[1];
  if (path === undefined) throw new Error('the addon of "zeromq" is not loaded');
  return path;
};

const load = (): Functions => {
  if (process.platform !== 'linux') throw new Error(`it is done on Linux so far, and this is ${process.platform}`);
  const library = openLibrary(addonPath());
  return {
    newContext: library.func('uintptr_t zmq_ctx_new()'),
    newSocket: library.func('uintptr_t zmq_socket(uintptr_t context, int type)'),
    setOption: library.func('int zmq_setsockopt(uintptr_t socket, int option, void *value, size_t bytes)'),
    bind: library.func('int zmq_bind(uintptr_t socket, const char *endpoint)'),
    connect: library.func('int zmq_connect(uintptr_t socket, const char *endpoint)'),
    close: library.func('int zmq_close(uintptr_t socket)'),
    send: library.func('int zmq_send(uintptr_t socket, void *data, size_t bytes, int flags)'),
    receive: library.func('int zmq_recv(uintptr_t socket, void *data, size_t bytes, int flags)'),
    poll: library.func('int zmq_poll(void *items, int count, long ms)'),
    errno: library.func('int zmq_errno()'),
    message: library.func('const char *zmq_strerror(int errno)'),
  };
};

let functions: Functions | undefined;
let context: Handle | undefined;

const zmq = (): Functions => {
  functions ??= load();
  return functions;
};

/** Why the compute thread cannot have sockets of its own here; undefined where it can. */
export const whyNoDirectSockets = (): string | undefined => {
  try {
    zmq();
    return undefined;
  } catch (error) {
    return error instanceof Error ? error.message.split('\n')[0] : String(error);
  }
};

const failed = (what: string): TandemError => {
  const { errno, message } = zmq();
  return new TandemError('EXCHANGE_SOCKET', `${what} failed: ${message(errno())}; use wire.transport "tcp".`);
};

const int32 = (value: number): Uint8Array => new Uint8Array(Int32Array.of(value).buffer);

/** A socket of this thread's. Queues have no limit: what may wait in them is what the programs send within a segment or two. */
abstract class DirectSocket {
  protected readonly handle: Handle;

  constructor(type: number) {
    const { newContext, newSocket } = zmq();
    context ??= BigInt(newContext());
    this.handle = BigInt(newSocket(context, type));
    if (this.handle === 0n) throw failed('Making a socket');
    for (const option of [LINGER, SNDHWM, RCVHWM]) this.set(option, int32(0));
  }

  protected set(option: number, value: Uint8Array): void {
    if (zmq().setOption(this.handle, option, value, value.byteLength) !== 0) throw failed('Setting up a socket');
  }

  close(): void {
    zmq().close(this.handle);
  }
}

/** Where peers push to. */
export class DirectInbox extends DirectSocket {
  readonly #item = new Uint8Array(POLL_ITEM_BYTES);
  readonly #header: Uint8Array;
  readonly #payload: Uint8Array;

  /** @throws TandemError `EXCHANGE_SOCKET` */
  constructor(endpoint: string, headerBytes: number, mostBytes: number) {
    super(PULL);
    // One more than is allowed shows what is too long.
    this.#header = new Uint8Array(headerBytes + 1);
    this.#payload = new Uint8Array(mostBytes);
    this.set(MAXMSGSIZE, new Uint8Array(BigInt64Array.of(BigInt(mostBytes)).buffer));
    if (zmq().bind(this.handle, endpoint) !== 0) throw failed(`Listening on "${endpoint}"`);
    const view = new DataView(this.#item.buffer);
    view.setBigUint64(0, this.handle, true);
    view.setInt16(12, POLLIN, true);
  }

  /** The next message's two parts, as views that hold until the next call; undefined where none is there. */
  take(): readonly [header: Uint8Array, payload: Uint8Array] | undefined {
    const { receive } = zmq();
    const length = receive(this.handle, this.#header, this.#header.byteLength, DONTWAIT);
    if (length < 0) return undefined;
    // Parts of a message arrive together.
    const size = receive(this.handle, this.#payload, this.#payload.byteLength, DONTWAIT);
    return [
      this.#header.subarray(0, Math.min(length, this.#header.byteLength)),
      this.#payload.subarray(0, Math.min(Math.max(size, 0), this.#payload.byteLength)),
    ];
  }

  /** Sleeps until a message is there, or for `ms`. */
  sleep(ms: number): void {
    zmq().poll(this.#item, 1, ms);
  }
}

/** The way to one peer's inbox, which need not be there yet. */
export class DirectOutbox extends DirectSocket {
  /** @throws TandemError `EXCHANGE_SOCKET` */
  constructor(endpoint: string, reconnectMs: number) {
    super(PUSH);
    this.set(RECONNECT_IVL, int32(reconnectMs));
    if (zmq().connect(this.handle, endpoint) !== 0) throw failed(`Connecting to "${endpoint}"`);
  }

  /** Both parts are copied. @throws TandemError `EXCHANGE_SOCKET` */
  send(header: Uint8Array, payload: Uint8Array): void {
    const { send } = zmq();
    if (send(this.handle, header, header.byteLength, SNDMORE) < 0) throw failed('Sending to a peer');
    if (send(this.handle, payload, payload.byteLength, 0) < 0) throw failed('Sending to a peer');
  }
}
