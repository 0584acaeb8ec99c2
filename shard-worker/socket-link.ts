/**
 * The compute thread's end of an exchange over sockets. The sockets live in the main thread (`zeromq` crashes at exit where a further
 * thread has loaded it), so a tensor is copied into memory that both threads see, and from there; the two talk over a port that the
 * compute thread reads when it wants to, without going back to its event loop, and a bell tells it when that is worth it.
 */

import { type MessagePort, receiveMessageOnPort } from 'node:worker_threads';
import { fromProblem } from '../common/answer.js';
import type { HostTensor } from '../common/tensor.js';
import type { BoundSegment } from './bound-program.js';
import { BufferPool, sharedBuffer } from './buffers.js';
import type { Incoming, Outgoing, Tensors } from './compute-protocol.js';
import type { Place } from './exchange.js';
import { type Lane, type Link, sentBytes } from './link.js';
import type { ThreadStatus } from './thread-status.js';

/** A bell is never missed; this is for the step that is abandoned in a way nobody thought of. */
const LOOK_MS = 500;

const keyOf = ({ step, microBatch, segment }: Place): string => `${step}.${microBatch}/${segment}`;

const copy = (from: HostTensor | undefined, to: HostTensor): void => {
  if (from !== undefined) to.data.set(from.data);
};

class SocketLane implements Lane {
  readonly #link: SocketLink;
  #step = 0;
  #microBatch = 0;

  constructor(link: SocketLink) {
    this.#link = link;
  }

  sent(): undefined {}

  received(): undefined {}

  begin(step: number, microBatch: number): void {
    this.#step = step;
    this.#microBatch = microBatch;
  }

  mayRun(): boolean {
    return true;
  }

  publish(segment: BoundSegment): number {
    const { sends, receives } = segment.entry;
    if (sends.length + receives.length > 0) this.#link.send(segment, this.#place(segment.number));
    return sentBytes(segment);
  }

  hasArrived({ number, entry, receives }: BoundSegment): boolean {
    if (receives.length === 0) return true;
    const arrived = this.#link.take(this.#place(number));
    if (arrived === undefined) return false;
    for (const [index, tensor] of receives.entries()) copy(arrived[entry.receives[index]?.name ?? ''], tensor);
    return true;
  }

  end(): void {}

  #place(segment: number): Place {
    return { step: this.#step, microBatch: this.#microBatch, segment };
  }
}

export class SocketLink implements Link {
  readonly #port: MessagePort;
  readonly #status: ThreadStatus;
  readonly #shared = new BufferPool(sharedBuffer);
  readonly #arrived = new Map<string, Tensors>();
  #rings = 0;

  constructor(port: MessagePort, status: ThreadStatus) {
    this.#port = port;
    this.#status = status;
  }

  lane(): Lane {
    return new SocketLane(this);
  }

  /** Hands a segment's sends over, as copies. */
  send({ entry, sends }: BoundSegment, place: Place): void {
    const copies = entry.sends.flatMap(({ tensor }, send) => {
      const made = sends[send];
      return made === undefined ? [] : [[tensor, this.#shared.copy(made)] as const];
    });
    const outgoing: Outgoing = { place, tensors: Object.fromEntries(copies) };
    this.#port.postMessage(outgoing);
  }

  /** What has arrived after a segment, once all of it has. */
  take(place: Place): Tensors | undefined {
    const key = keyOf(place);
    const arrived = this.#arrived.get(key);
    this.#arrived.delete(key);
    return arrived;
  }

  wait(): void {
    this.#status.setWaiting(true);
    this.#status.sleep(this.#rings, LOOK_MS);
    this.#status.setWaiting(false);
  }

  close(): void {
    this.#port.close();
  }

  look(): void {
    // Before the port is read: what comes after that rings again.
    this.#rings = this.#status.rings;
    for (let next = receiveMessageOnPort(this.#port); next !== undefined; next = receiveMessageOnPort(this.#port))
      this.#note(next.message as Incoming);
  }

  #note(incoming: Incoming): void {
    if (incoming.kind === 'failed') throw fromProblem(incoming.problem);
    this.#shared.give(incoming.delivered);
    const { place, tensors } = incoming;
    if (Object.keys(tensors).length > 0) this.#arrived.set(keyOf(place), tensors);
  }
}
