/**
 * A step's way through a rank's program: `run segment, exchange, run segment, ...`. The micro-batches of a step go through it each
 * by itself, so that one computes while another's tensors travel (dual batch overlap).
 */
import { isKnownSpec } from '../common/tensor.js';
import type { SegmentEntry } from '../partition/write/manifest.js';
import type { BufferPool } from './buffers.js';
import type { ComputePool } from './compute-pool.js';
import type { Tensors } from './compute-protocol.js';
import type { Exchange } from './exchange.js';

/** What a step's micro-batches have in common. */
export interface StepContext {
  readonly id: number;
  /** Number of the network's first segment in the rank's program. */
  readonly first: number;
  readonly segments: readonly SegmentEntry[];
  readonly outputs: readonly string[];
  readonly compute: ComputePool;
  readonly exchange: Exchange;
  readonly buffers: BufferPool;
  /** The time in which nobody computes. */
  readonly idle: IdleTime;
  readonly onSegment: () => void;
}

export interface MicroBatchResult {
  readonly outputs: Tensors;
  readonly computeMs: number;
  readonly sentBytes: number;
}

/** Adds up the time in which all of several tasks wait. */
export class IdleTime {
  #busy: number;
  #since = 0;
  #totalMs = 0;

  /** @param tasks all busy */
  constructor(tasks: number) {
    this.#busy = tasks;
  }

  get totalMs(): number {
    return this.#totalMs;
  }

  /** A task waits from now on, or has ended. */
  wait(): void {
    this.#busy -= 1;
    this.#since = performance.now();
  }

  /** A task is busy again. */
  resume(): void {
    if (this.#busy === 0) this.#totalMs += performance.now() - this.#since;
    this.#busy += 1;
  }
}

const makeSent = ({ sends, outputs }: SegmentEntry, buffers: BufferPool): Tensors => {
  const sent = new Set(sends.map(({ tensor }) => tensor));
  const specs = outputs.filter(isKnownSpec).filter(({ name }) => sent.has(name));
  return Object.fromEntries(specs.map((spec) => [spec.name, buffers.tensor(spec)]));
};

/**
 * Runs one of a step's micro-batches.
 * @param microBatch its index in the step
 * @throws TandemError as the exchange and the compute thread do
 */
export const runMicroBatch = async (
  inputs: Tensors,
  microBatch: number,
  context: StepContext,
): Promise<MicroBatchResult> => {
  const { id, first, segments, compute, exchange, buffers, idle } = context;
  let arrived: Tensors = Object.fromEntries(
    Object.entries(inputs).map(([name, tensor]) => [name, buffers.copy(tensor)]),
  );
  let computeMs = 0;
  let sentBytes = 0;
  for (const [index, segment] of segments.entries()) {
    buffers.give(exchange.takeDelivered(id));
    const sent = makeSent(segment, buffers);
    const { compute_ms } = await compute.run({ segment: first + index, microBatch, arrived, sent });
    buffers.give(Object.values(arrived));
    computeMs += compute_ms;
    context.onSegment();
    idle.wait();
    const place = { step: id, microBatch, segment: first + index };
    const [bytes, received] = await Promise.all([exchange.send(place, sent), exchange.receive(place)]);
    idle.resume();
    arrived = received;
    sentBytes += bytes;
  }
  const outputs = await compute.finish({ microBatch, arrived, outputs: context.outputs });
  buffers.give(Object.values(arrived));
  idle.wait();
  return { outputs, computeMs, sentBytes };
};
