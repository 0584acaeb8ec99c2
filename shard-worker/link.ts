/**
 * How the compute thread reaches the other ranks. A step runs in that thread from start to end: it runs a segment, publishes what
 * the segment made for others, and begins the next one as soon as all that it needs has come. What lies between two ranks,
 * sockets or shared memory, is a link's own affair.
 */
import type { BoundRun } from '../common/onnxruntime.js';
import type { HostTensor } from '../common/tensor.js';
import type { SegmentEntry } from '../partition/write/manifest.js';

/**
 * As many micro-batches of a step are under way at once; those behind them follow when one has ended. More than two hide no
 * more of the exchange.
 */
export const LANES = 2;

/** A segment that can run. */
export interface BoundSegment {
  /** In the rank's program. */
  readonly number: number;
  readonly entry: SegmentEntry;
  readonly run: BoundRun;
  /** By their places in the entry's `sends`. */
  readonly sends: readonly HostTensor[];
  /** By their places in the entry's `receives`. */
  readonly receives: readonly HostTensor[];
  /** What a run copies between the host and the device, both ways; 0 on a CPU. */
  readonly copiedBytes: number;
}

/** The way of one micro-batch after another through the rank's program. Steps end for all ranks before the next one begins. */
export interface Lane {
  /** Where the runtime is to write what a segment sends; anywhere where undefined. */
  sent(segment: number, send: number): Uint8Array | undefined;
  /** Where what arrives after a segment lies once it is there; anywhere where undefined. */
  received(segment: number, receive: number): Uint8Array | undefined;
  /** @throws TandemError where the peers cannot be reached */
  begin(step: number, microBatch: number): void;
  /** Whether a segment may run: what it overwrites has been read by everyone. */
  mayRun(segment: BoundSegment): boolean;
  /**
   * Lets the peers have what a segment has written for them.
   * @returns bytes, each peer counted
   */
  publish(segment: BoundSegment): number;
  /** Whether all that comes after a segment is in its place. */
  hasArrived(segment: BoundSegment): boolean;
  /** This rank has run its last segment, and has read all that was sent to it. */
  end(): void;
}

export interface Link {
  /** Index is below `LANES`. @param network number of the first segment of a network in the rank's program */
  lane(index: number, network: number): Lane;
  /** Before lanes look what is there: `wait` ends at once where something came after this. */
  look(): void;
  /** Sleeps until a lane may have something new, or for a moment. @throws TandemError where waiting has no use any more */
  wait(): void;
  close(): void;
}

/** Bytes that a segment sends, each peer counted. */
export const sentBytes = ({ entry, sends }: BoundSegment): number =>
  entry.sends.reduce((sum, { to }, send) => sum + to.length * (sends[send]?.data.byteLength ?? 0), 0);

/** A tensor in memory of a link's own, or in any. */
export const tensorIn = (
  data: Uint8Array | undefined,
  spec: Omit<HostTensor, 'data'>,
  make: (spec: Omit<HostTensor, 'data'>) => HostTensor,
): HostTensor => (data === undefined ? make(spec) : { dtype: spec.dtype, shape: spec.shape, data });
