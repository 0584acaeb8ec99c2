/** An exchange over the compute thread's own sockets, in the main thread, which only says where the peers are. */
import type { Carrier, PeersOrder } from './carrier.js';
import type { ComputePool } from './compute-pool.js';
import type { JoinedProgram } from './program.js';
import type { ThreadStatus } from './thread-status.js';

export interface DirectSocketCarrierOptions {
  readonly rank: number;
  readonly endpoint: string;
  readonly program: JoinedProgram;
  readonly compute: ComputePool;
  readonly status: ThreadStatus;
  readonly afterStep: number;
}

export class DirectSocketCarrier implements Carrier {
  readonly #options: DirectSocketCarrierOptions;
  #afterStep: number;

  constructor(options: DirectSocketCarrierOptions) {
    this.#options = options;
    this.#afterStep = options.afterStep;
  }

  get awaiting(): readonly number[] {
    return this.#options.status.awaiting;
  }

  async connect({ peers, exchange_timeout_ms: timeoutMs }: PeersOrder): Promise<void> {
    const { compute, status, rank, endpoint, program } = this.#options;
    const afterStep = this.#afterStep;
    const link = { kind: 'direct-sockets', rank, endpoint, peers, program, timeoutMs, afterStep } as const;
    await compute.connect({ status: status.buffer, link });
  }

  abandon(afterStep: number): void {
    this.#afterStep = afterStep;
  }

  stepEnded(): void {}

  close(): void {}
}
