/** Who is let in where a socket listens on a port: lists of public keys, and the one who is asked (ZeroMQ RFC 27, ZAP). */
import { randomUUID } from 'node:crypto';
import { keyBytes, keyText } from './keys.js';

/** Whom a listening socket lets in, by public key. */
export type GuestList = (publicKey: string) => boolean;

/** 300 tells a peer to come again, as its key may be listed a moment later; 400 that it is not wanted. */
export type Refusal = '300' | '400';

export interface Door {
  readonly guests: (key: Buffer) => boolean;
  readonly refusal: Refusal;
}

/** Where sockets ask. */
export interface ZapSocket extends AsyncIterable<readonly Buffer[]> {
  send(frames: (Buffer | string)[]): Promise<void>;
  close(): void;
}

/** Asked by every listening socket of this process whom to let in (ZeroMQ RFC 27); there while one listens on a port. */
export class Doorkeeper {
  readonly #doors = new Map<string, Door>();
  readonly #listen: () => Promise<ZapSocket>;
  #socket: Promise<ZapSocket> | undefined;
  #refused = 0;

  constructor(listen: () => Promise<ZapSocket>) {
    this.#listen = listen;
  }

  /** Connections that were refused since the process began. */
  get refused(): number {
    return this.#refused;
  }

  /** @param domain the socket's own name */
  async open(domain: string, door: Door): Promise<void> {
    this.#doors.set(domain, door);
    if (this.#socket === undefined) {
      this.#socket = this.#listen();
      void this.#socket.then((socket) => this.#answer(socket)).catch(() => undefined);
    }
    await this.#socket;
  }

  close(domain: string): void {
    if (!this.#doors.delete(domain) || this.#doors.size > 0) return;
    void this.#socket?.then((socket) => socket.close());
    this.#socket = undefined;
  }

  async #answer(socket: ZapSocket): Promise<void> {
    for await (const [version = '', id = '', domain = '', , , mechanism, key] of socket) {
      const door = this.#doors.get(String(domain));
      const isKnown = String(mechanism) === 'CURVE' && key !== undefined && door?.guests(key) === true;
      if (!isKnown) this.#refused += 1;
      await socket.send([version, id, ...(isKnown ? ['200', 'OK'] : [door?.refusal ?? '400', 'unknown key']), '', '']);
    }
  }
}

const hexOf = (publicKey: string): string => keyBytes(publicKey).toString('hex');

/** The keys that one listening socket lets in: those that are added, and this process's own where no other list is given. */
export class Guests {
  readonly domain = randomUUID();
  readonly #own: string;
  #keys: Set<string>;
  readonly #others: GuestList | undefined;

  constructor(own: string, others?: GuestList) {
    this.#own = own;
    this.#others = others;
    this.#keys = new Set(others === undefined ? [hexOf(own)] : []);
  }

  add(publicKey: string): void {
    this.#keys.add(hexOf(publicKey));
  }

  remove(publicKey: string): void {
    this.#keys.delete(hexOf(publicKey));
  }

  replace(publicKeys: readonly string[]): void {
    this.#keys = new Set([this.#own, ...publicKeys].map(hexOf));
  }

  /** Their names are no secret, only who has their secret keys is: to look one up needs no constant time. */
  has(key: Buffer): boolean {
    return this.#keys.has(key.toString('hex')) || this.#others?.(keyText(key)) === true;
  }
}
