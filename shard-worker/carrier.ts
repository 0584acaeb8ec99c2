/** The main thread's side of a rank's exchange: it connects the compute thread with the peers and can call a step off. */

export interface Carrier {
  /** Ranks that the compute thread waits for. */
  readonly awaiting: readonly number[];
  /**
   * Gives the compute thread its way to the peers; no step may be under way.
   * @param timeoutMs longest wait for the peers' tensors of one segment
   * @throws TandemError as `ComputePool.connect`
   */
  connect(peers: readonly string[], timeoutMs: number): Promise<void>;
  /** Ends the step under way with `STEP_ABANDONED`; what still arrives of steps up to `afterStep` counts for nothing. */
  abandon(afterStep: number): void;
  /** The step has ended well. */
  stepEnded(): void;
  close(): void;
}
