/**
 * An exchange over sockets that the compute thread owns: it pushes what a segment made to the peers' sockets and reads its own one,
 * without a hop through the main thread. On the wire it is the same as there: a peer may do it either way.
 */
import { BufferPool, ownBuffer } from '../buffers.js';
import { encodeHeader, HEADER_BYTES, MAX_EXCHANGE_FRAME_BYTES, type Place, pieceCount, pieceOf } from '../frames.js';
import type { BoundSegment, Lane, Link } from '../link.js';
import type { JoinedProgram } from '../program.js';
import { type LaneSockets, SocketLane } from '../socket-lane.js';
import type { ThreadStatus } from '../thread-status.js';
import { Arrivals } from './arrivals.js';
import { DirectInbox, DirectOutbox } from './library.js';

/** How often a peer's socket is looked for that is not there yet. */
const RECONNECT_MS = 20;
/** How long a step that was abandoned may go unnoticed. */
const SLEEP_MS = 20;

export interface DirectSocketOptions {
  readonly rank: number;
  /** Where this rank listens. */
  readonly endpoint: string;
  /** Where all ranks listen; index is the rank. */
  readonly peers: readonly string[];
  readonly program: JoinedProgram;
  /** Longest wait for a peer, in ms. */
  readonly timeoutMs: number;
  /** What arrives for this step and earlier ones is dropped: leftovers of a step that was abandoned. */
  readonly afterStep: number;
}

/** Stays open from one connection to the next: a socket's file goes some time after the socket was closed. */
const inboxes = new Map<string, DirectInbox>();

const inboxAt = (endpoint: string): DirectInbox => {
  const inbox = inboxes.get(endpoint) ?? new DirectInbox(endpoint, HEADER_BYTES, MAX_EXCHANGE_FRAME_BYTES);
  inboxes.set(endpoint, inbox);
  return inbox;
};

export class DirectSocketLink implements Link, LaneSockets {
  readonly #options: DirectSocketOptions;
  readonly #status: ThreadStatus;
  readonly #inbox: DirectInbox;
  readonly #outboxes: ReadonlyMap<number, DirectOutbox>;
  readonly #arrivals: Arrivals;
  /** What a lane waits for. */
  readonly #missing = new Map<number, Place>();
  #waitingSince: number | undefined;
  #isAwaiting = false;

  /** @throws TandemError `EXCHANGE_SOCKET` */
  constructor(options: DirectSocketOptions, status: ThreadStatus) {
    const { rank, endpoint, peers, program, afterStep } = options;
    this.#options = options;
    this.#status = status;
    this.#inbox = inboxAt(endpoint);
    const others = [...peers.entries()].filter(([peer]) => peer !== rank);
    this.#outboxes = new Map(others.map(([peer, to]) => [peer, new DirectOutbox(to, RECONNECT_MS)]));
    this.#arrivals = new Arrivals({ rank, program, afterStep, buffers: new BufferPool(ownBuffer) });
  }

  lane(index: number): Lane {
    return new SocketLane(this, index);
  }

  send({ number, entry, sends }: BoundSegment, place: Place): void {
    for (const [index, { to }] of entry.sends.entries()) {
      const tensor = sends[index];
      if (tensor === undefined) throw new RangeError(`Segment ${number} has no send ${index}.`);
      for (const peer of to) this.#push(peer, place, index, tensor.data);
    }
  }

  take(lane: number, place: Place, { receives }: BoundSegment): boolean {
    const isHere = this.#arrivals.take(place, receives);
    if (isHere) {
      this.#missing.delete(lane);
      this.#waitingSince = undefined;
      if (this.#isAwaiting) this.#status.setAwaiting([]);
      this.#isAwaiting = false;
    } else this.#missing.set(lane, place);
    return isHere;
  }

  look(): void {
    for (let next = this.#inbox.take(); next !== undefined; next = this.#inbox.take()) this.#arrivals.add(...next);
  }

  wait(): void {
    const places = [...this.#missing.values()];
    this.#waitingSince ??= performance.now();
    const { timeoutMs } = this.#options;
    if (performance.now() - this.#waitingSince > timeoutMs) throw this.#arrivals.timeout(places, timeoutMs);
    this.#status.setAwaiting(this.#arrivals.missingRanks(places));
    this.#isAwaiting = true;
    this.#inbox.sleep(SLEEP_MS);
  }

  close(): void {
    for (const outbox of this.#outboxes.values()) outbox.close();
  }

  #push(peer: number, place: Place, tensor: number, data: Uint8Array): void {
    const outbox = this.#outboxes.get(peer);
    if (outbox === undefined) throw new RangeError(`Rank ${peer} is not among the peers.`);
    const header = { ...place, from: this.#options.rank, tensor, totalBytes: data.byteLength };
    for (let piece = 0; piece < pieceCount(data.byteLength); piece++)
      outbox.send(encodeHeader({ ...header, piece }), pieceOf(data, piece));
  }
}
