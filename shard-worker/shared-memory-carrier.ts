/** An exchange through shared memory in the main thread, which has little to do: the compute threads need no one between them. */
import { TandemError } from '../common/errors.js';
import type { Carrier, PeersOrder } from './carrier.js';
import type { ComputePool } from './compute-pool.js';
import type { JoinedProgram } from './program.js';
import type { ThreadStatus } from './thread-status.js';

export interface SharedMemoryCarrierOptions {
  readonly rank: number;
  readonly fd: number;
  readonly program: JoinedProgram;
  readonly compute: ComputePool;
  readonly status: ThreadStatus;
}

export class SharedMemoryCarrier implements Carrier {
  readonly #options: SharedMemoryCarrierOptions;

  constructor(options: SharedMemoryCarrierOptions) {
    this.#options = options;
  }

  get awaiting(): readonly number[] {
    return this.#options.status.awaiting;
  }

  async connect({ memories, exchange_timeout_ms: timeoutMs }: PeersOrder): Promise<void> {
    const { compute, status, rank, fd, program } = this.#options;
    if (memories === undefined)
      throw new TandemError('PROTOCOL_ORDER', "Expected the addresses of all ranks' shared memory, found none.");
    const link = { kind: 'shared-memory', rank, fd, program, memories, timeoutMs } as const;
    await compute.connect({ status: status.buffer, link });
  }

  abandon(): void {}

  stepEnded(): void {}

  close(): void {}
}
