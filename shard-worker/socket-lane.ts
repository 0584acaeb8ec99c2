/**
 * A lane over sockets, whoever owns them: nothing lies in memory of the link's own, nothing need be waited for before a segment runs, and
 * where a micro-batch is in its step is all that its link must be told.
 */
import type { Place } from './frames.js';
import { type BoundSegment, type Lane, sentBytes } from './link.js';

/** What a lane needs of its link. */
export interface LaneSockets {
  /** Lets the peers have what a segment has made for them. */
  send(segment: BoundSegment, place: Place): void;
  /** Puts what comes after a segment into its place, once all of it has come. @returns whether it has */
  take(lane: number, place: Place, segment: BoundSegment): boolean;
}

export class SocketLane implements Lane {
  readonly #sockets: LaneSockets;
  readonly #index: number;
  #step = 0;
  #microBatch = 0;

  constructor(sockets: LaneSockets, index: number) {
    this.#sockets = sockets;
    this.#index = index;
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
    this.#sockets.send(segment, this.#place(segment));
    return sentBytes(segment);
  }

  hasArrived(segment: BoundSegment): boolean {
    return segment.receives.length === 0 || this.#sockets.take(this.#index, this.#place(segment), segment);
  }

  end(): void {}

  #place({ number }: BoundSegment): Place {
    return { step: this.#step, microBatch: this.#microBatch, segment: number };
  }
}
