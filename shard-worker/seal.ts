/**
 * What proves that an order to a detached worker comes from a coordinator that knows the token of its directory: the socket at
 * which the worker looks for the next coordinator does not say who listens there.
 *
 * The worker makes up a challenge; the key of a session is the token's digest of that challenge and of the session's name, and
 * every order carries its own digest under that key with a number that only rises. So an order can neither be made without the token
 * nor be said again, to this worker or to another.
 *
 *     tag (32 bytes) | session (16) | number (8) | order
 */
import { createHmac, randomBytes, timingSafeEqual } from 'node:crypto';

const TAG_BYTES = 32;
const SESSION_BYTES = 16;
const NUMBER_BYTES = 8;
const HEADER_BYTES = TAG_BYTES + SESSION_BYTES + NUMBER_BYTES;

const keyOf = (token: string, challenge: string, session: Uint8Array): Buffer =>
  createHmac('sha256', token).update(challenge).update(session).digest();

const tagOf = (key: Buffer, sealed: Uint8Array): Buffer => createHmac('sha256', key).update(sealed).digest();

/** A session's name, in hex. */
export const newSession = (): string => randomBytes(SESSION_BYTES).toString('hex');

/** The coordinator's side: one for each worker. */
export class Seal {
  readonly #session: Buffer;
  readonly #key: Buffer;
  #number = 0n;

  /** @param session as `newSession` gives it */
  constructor(token: string, challenge: string, session: string) {
    this.#session = Buffer.from(session, 'hex');
    this.#key = keyOf(token, challenge, this.#session);
  }

  seal(order: Uint8Array): Buffer {
    this.#number += 1n;
    const number = Buffer.alloc(NUMBER_BYTES);
    number.writeBigUInt64BE(this.#number);
    const sealed = Buffer.concat([Buffer.alloc(TAG_BYTES), this.#session, number, order]);
    tagOf(this.#key, sealed.subarray(TAG_BYTES)).copy(sealed);
    return sealed;
  }
}

interface OpenSession {
  readonly session: Buffer;
  readonly key: Buffer;
  readonly last: bigint;
}

/** The worker's side. */
export class SealBreaker {
  readonly #token: string;
  #challenge = newSession();
  #current: OpenSession | undefined;

  constructor(token: string) {
    this.#token = token;
  }

  /** For the next session; another one once that has begun. */
  get challenge(): string {
    return this.#challenge;
  }

  /** The order in a sealed frame; undefined where it is not sealed by a coordinator that knows the token, or was said before. */
  open(frame: Uint8Array): Uint8Array | undefined {
    if (frame.byteLength < HEADER_BYTES) return undefined;
    const sealed = Buffer.from(frame.buffer, frame.byteOffset, frame.byteLength);
    const session = sealed.subarray(TAG_BYTES, TAG_BYTES + SESSION_BYTES);
    const number = sealed.readBigUInt64BE(TAG_BYTES + SESSION_BYTES);
    const isCurrent = this.#current?.session.equals(session) ?? false;
    const { key, last } = isCurrent && this.#current ? this.#current : this.#next(session);
    const isAuthentic = timingSafeEqual(tagOf(key, sealed.subarray(TAG_BYTES)), sealed.subarray(0, TAG_BYTES));
    if (!isAuthentic || number <= last) return undefined;
    this.#current = { session: Buffer.from(session), key, last: number };
    if (!isCurrent) this.#challenge = newSession();
    return sealed.subarray(HEADER_BYTES);
  }

  #next(session: Buffer): Pick<OpenSession, 'key' | 'last'> {
    return { key: keyOf(this.#token, this.#challenge, session), last: 0n };
  }
}
