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
import { type Place, placeKey } from './frames.js';
import type { Lane, Link } from './link.js';
import { type LaneSockets, SocketLane } from './socket-lane.js';
import type { ThreadStatus } from './thread-status.js';

/** A bell is never missed; this is for the step that is abandoned in a way nobody thought of. */
const LOOK_MS = 500;

const copy = (from: HostTensor | undefined, to: HostTensor): void => {
  if (from !== undefined) to.data.set(from.data);
};

export class SocketLink implements Link, LaneSockets {
  readonly #port: MessagePort;
  readonly #status: ThreadStatus;
  readonly #shared = new BufferPool(sharedBuffer);
  readonly #arrived = new Map<string, Tensors>();
  #rings = 0;

  constructor(port: MessagePort, status: ThreadStatus) {
    this.#port = port;
    this.#status = status;
  }

  lane(index: number): Lane {
    return new SocketLane(this, index);
  }

  /** Hands a segment's sends over, as copies; the main thread then waits for what comes after it, if anything does. */
  send({ entry, sends }: BoundSegment, place: Place): void {
    if (entry.sends.length + entry.receives.length === 0) return;
    const copies = entry.sends.flatMap(({ tensor }, send) => {
      const made = sends[send];
      return made === undefined ? [] : [[tensor, this.#shared.copy(made)] as const];
    });
    const outgoing: Outgoing = { place, tensors: Object.fromEntries(copies) };
    this.#port.postMessage(outgoing);
  }

  take(_: number, place: Place, { entry, receives }: BoundSegment): boolean {
    const key = placeKey(place);
    const arrived = this.#arrived.get(key);
    if (arrived === undefined) return false;
    this.#arrived.delete(key);
    for (const [index, tensor] of receives.entries()) copy(arrived[entry.receives[index]?.name ?? ''], tensor);
    return true;
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
    if (Object.keys(tensors).length > 0) this.#arrived.set(placeKey(place), tensors);
  }
}
