/** The main thread's side of a rank's exchange: it connects the compute thread with the peers and can call a step off. */
import type { ToWorker } from './protocol.js';

/** What orders say of the peers. */
export type PeersOrder = Pick<
  Extract<ToWorker, { kind: 'load' | 'reset' }>,
  'peers' | 'peer_keys' | 'memories' | 'exchange_timeout_ms'
>;

export interface Carrier {
  /** Ranks that the compute thread waits for. */
  readonly awaiting: readonly number[];
  /**
   * Gives the compute thread its way to the peers; no step may be under way.
   * @throws TandemError as `ComputePool.connect`
   */
  connect(order: PeersOrder): Promise<void>;
  /** Ends the step under way with `STEP_ABANDONED`; what still arrives of steps up to `afterStep` counts for nothing. */
  abandon(afterStep: number): void;
  /** The step has ended well. */
  stepEnded(): void;
  close(): void;
}
