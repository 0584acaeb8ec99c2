/** An exchange over sockets in the main thread: what the compute thread hands over goes to the peers, and what they send goes to it. */

import { MessageChannel, type MessagePort } from 'node:worker_threads';
import { toProblem } from '../common/answer.js';
import type { HostTensor } from '../common/tensor.js';
import { BufferPool, sharedBuffer } from './buffers.js';
import type { Carrier, PeersOrder } from './carrier.js';
import type { ComputePool } from './compute-pool.js';
import type { Incoming, Outgoing, Tensors } from './compute-protocol.js';
import { Exchange, type ExchangeOptions } from './exchange.js';
import type { ThreadStatus } from './thread-status.js';

export interface SocketCarrierOptions extends Omit<ExchangeOptions, 'buffers' | 'peers' | 'keys' | 'timeoutMs'> {
  readonly compute: ComputePool;
  readonly status: ThreadStatus;
}

export class SocketCarrier implements Carrier {
  readonly #options: SocketCarrierOptions;
  readonly #buffers = new BufferPool(sharedBuffer);
  /** What the compute thread was given last, by micro-batch; it has copied that when it sends again. */
  readonly #given = new Map<number, readonly HostTensor[]>();
  #exchange: Exchange | undefined;
  #port: MessagePort | undefined;

  constructor(options: SocketCarrierOptions) {
    this.#options = options;
  }

  get awaiting(): readonly number[] {
    return this.#options.status.isWaiting ? (this.#exchange?.awaiting ?? []) : [];
  }

  async connect({ peers, peer_keys: keys = [], exchange_timeout_ms: timeoutMs }: PeersOrder): Promise<void> {
    const { compute, status } = this.#options;
    const exchange = this.#exchangeWith(peers, keys, timeoutMs);
    // What is still on its way through the old one belongs to a step that is over.
    this.#port?.close();
    const { port1, port2 } = new MessageChannel();
    port1.on('message', (outgoing: Outgoing) => this.#carry(outgoing, exchange, port1));
    this.#port = port1;
    await compute.connect({ status: status.buffer, link: { kind: 'sockets', port: port2 } });
  }

  abandon(afterStep: number): void {
    // Buffers of the abandoned step may still be read or written: they are left to the garbage collector.
    this.#given.clear();
    this.#exchange?.abandon(afterStep);
  }

  stepEnded(): void {
    for (const tensors of this.#given.values()) this.#buffers.give(tensors);
    this.#given.clear();
  }

  close(): void {
    this.#exchange?.close();
    this.#port?.close();
  }

  #exchangeWith(peers: readonly string[], keys: readonly string[], timeoutMs: number): Exchange {
    if (this.#exchange === undefined)
      this.#exchange = new Exchange({ ...this.#options, peers, keys, timeoutMs, buffers: this.#buffers });
    else this.#exchange.connect(peers, keys, timeoutMs);
    return this.#exchange;
  }

  #carry({ place, tensors }: Outgoing, exchange: Exchange, port: MessagePort): void {
    this.#buffers.give(this.#given.get(place.microBatch) ?? []);
    this.#given.delete(place.microBatch);
    const fail = (error: unknown): void => this.#tell(port, { kind: 'failed', place, problem: toProblem(error) });
    const give = (arrived: Tensors): void => {
      this.#given.set(place.microBatch, Object.values(arrived));
      const delivered = exchange.takeDelivered(place.step);
      this.#tell(port, { kind: 'arrived', place, tensors: arrived, delivered });
    };
    exchange.send(place, tensors).catch(fail);
    exchange.receive(place).then(give, fail);
  }

  #tell(port: MessagePort, message: Incoming): void {
    port.postMessage(message);
    this.#options.status.ring();
  }
}
