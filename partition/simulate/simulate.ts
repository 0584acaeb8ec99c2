/**
 * A step in discrete events: ranks that compute segments, links that carry what they send, and lanes of micro-batches that take turns, by
 * the rules of the step loop (`shard-worker/step-loop.ts`). Nothing is random: what other processes take, and the lateness that
 * makes ranks wait for each other, is not in it.
 */
import type { LinkRates } from '../plan/rates.js';

/** Micro-batches that are under way at once. */
const LANES = 2;

export interface SimulatedSegment {
  readonly computeMs: number;
  /** Bytes to each rank; 0 for those that are sent nothing. */
  readonly sends: readonly number[];
}

export interface SimulatedStep {
  /** By rank; all have as many segments. */
  readonly ranks: readonly (readonly SimulatedSegment[])[];
  /** Each rank's way to all others. */
  readonly links: readonly LinkRates[];
  /** Times that the program is run. */
  readonly microBatches: number;
  /** The way from the coordinator and back. */
  readonly controlMs: number;
}

export interface SimulatedTimes {
  readonly stepMs: number;
  /** Of the rank that computes longest. */
  readonly computeMs: number;
  /** Of the rank that waits longest, in which it has nothing to compute. */
  readonly waitMs: number;
  /** Of the link that is busy longest. */
  readonly linkMs: number;
}

/** A micro-batch on a rank, before its next segment. */
interface LaneState {
  readonly rank: number;
  microBatch: number;
  segment: number;
}

interface Begin {
  readonly lane: LaneState;
  readonly ms: number;
}

const zeros = ({ length }: { readonly length: number }): number[] => Array.from({ length }, () => 0);

class Simulation {
  readonly #step: SimulatedStep;
  readonly #lanes: readonly LaneState[];
  /** When each rank has ended its last segment, and when its link has sent all that it was given. */
  readonly #free: number[];
  readonly #sent: number[];
  readonly #busy: number[];
  readonly #carried: number[];
  /** When what a rank waits for before a segment is there, and of how many ranks that is known. */
  readonly #arrivals = new Map<string, { readonly ms: number; readonly ranks: number }>();

  constructor(step: SimulatedStep) {
    this.#step = step;
    const lanes = Array.from({ length: Math.min(LANES, step.microBatches) }, (_, lane) => lane);
    this.#lanes = step.ranks.flatMap((_, rank) => lanes.map((lane) => ({ rank, microBatch: lane, segment: 0 })));
    this.#free = zeros(step.ranks);
    this.#sent = zeros(step.ranks);
    this.#busy = zeros(step.ranks);
    this.#carried = zeros(step.ranks);
  }

  run(): SimulatedTimes {
    for (let next = this.#next(); next !== undefined; next = this.#next()) this.#compute(next);
    const end = Math.max(...this.#free);
    return {
      stepMs: end + this.#step.controlMs,
      computeMs: Math.max(...this.#busy),
      waitMs: Math.max(...this.#busy.map((busy) => end - busy)),
      linkMs: Math.max(...this.#carried),
    };
  }

  /** What can begin first. Whatever is not known yet begins later than that. */
  #next(): Begin | undefined {
    let best: Begin | undefined;
    for (const lane of this.#lanes) {
      const ready = lane.microBatch < this.#step.microBatches ? this.#readyMs(lane) : undefined;
      if (ready === undefined) continue;
      const ms = Math.max(ready, this.#free[lane.rank] ?? 0);
      if (best === undefined || ms < best.ms) best = { lane, ms };
    }
    return best;
  }

  /** Undefined where a rank that sends to this one has not come that far. */
  #readyMs({ rank, microBatch, segment }: LaneState): number | undefined {
    const senders = this.#step.ranks.filter((program) => (program[segment - 1]?.sends[rank] ?? 0) > 0).length;
    if (senders === 0) return 0;
    const arrived = this.#arrivals.get(`${rank}.${microBatch}.${segment}`);
    return arrived?.ranks === senders ? arrived.ms : undefined;
  }

  #compute({ lane, ms: begun }: Begin): void {
    const { rank, microBatch, segment } = lane;
    const program = this.#step.ranks[rank] ?? [];
    const { computeMs = 0, sends = [] } = program[segment] ?? {};
    this.#free[rank] = begun + computeMs;
    this.#busy[rank] = (this.#busy[rank] ?? 0) + computeMs;
    for (const [to, bytes] of sends.entries())
      if (bytes > 0) this.#send(rank, { to, bytes, ms: begun + computeMs, key: `${to}.${microBatch}.${segment + 1}` });
    lane.segment += 1;
    if (lane.segment < program.length) return;
    lane.segment = 0;
    lane.microBatch += LANES;
  }

  /** A link carries one thing after the other. */
  #send(from: number, { to, bytes, ms, key }: { to: number; bytes: number; ms: number; key: string }): void {
    const links = [this.#step.links[from], this.#step.links[to]].filter((link) => link !== undefined);
    const took = bytes / Math.min(...links.map(({ wireBytesPerMs }) => wireBytesPerMs));
    const sent = Math.max(ms, this.#sent[from] ?? 0) + took;
    this.#sent[from] = sent;
    this.#carried[from] = (this.#carried[from] ?? 0) + took;
    const known = this.#arrivals.get(key) ?? { ms: 0, ranks: 0 };
    const arrives = sent + Math.max(...links.map(({ latencyMs }) => latencyMs));
    this.#arrivals.set(key, { ms: Math.max(known.ms, arrives), ranks: known.ranks + 1 });
  }
}

/** What a step takes. */
export const simulateStep = (step: SimulatedStep): SimulatedTimes => new Simulation(step).run();
