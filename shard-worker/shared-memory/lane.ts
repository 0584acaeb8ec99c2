/** The way of micro-batches through shared memory: the regions of tensors, and who must have come how far. */
import { type BoundSegment, LANES, type Lane, sentBytes } from '../link.js';
import type { Block } from './block.js';
import { COUNT_BITS, type NetworkRegions, type RankRegions, type Region, type Wait } from './regions.js';

const STEP_BITS = 32n;
/** Of a rank that has run all its segments: the beginning of the lane's next round. */
const ROUND = 1n << BigInt(COUNT_BITS);

/** What a lane needs of its link. */
export interface Blocks {
  block(rank: number): Block;
  /** Says which ranks a lane waits for; none where it waits no more. */
  note(lane: number, missing: readonly number[]): void;
}

export interface SharedMemoryLaneOptions {
  readonly link: Blocks;
  readonly index: number;
  /** Number of the network's first segment in the rank's program. */
  readonly first: number;
  readonly network: NetworkRegions;
  readonly rank: number;
}

export class SharedMemoryLane implements Lane {
  readonly #options: SharedMemoryLaneOptions;
  readonly #regions: RankRegions;
  readonly #own: Block;
  /** The other ranks that run the network. */
  readonly #others: readonly number[];
  /** What stands above the segments in a count. */
  #base = 0n;

  constructor(options: SharedMemoryLaneOptions) {
    const { link, network, rank, first } = options;
    const regions = network.ranks[rank];
    if (regions === undefined) throw new RangeError(`Rank ${rank} has no part in the network at segment ${first}.`);
    this.#options = options;
    this.#regions = regions;
    this.#own = link.block(rank);
    this.#others = network.members.filter((member) => member !== rank);
  }

  sent(segment: number, send: number): Uint8Array | undefined {
    return this.#view(this.#options.rank, this.#regions.regions[segment - this.#options.first]?.[send]);
  }

  received(segment: number, receive: number): Uint8Array | undefined {
    const { network, first } = this.#options;
    const source = this.#regions.sources[segment - first]?.[receive];
    return source && this.#view(source.rank, network.ranks[source.rank]?.regions[segment - first]?.[source.send]);
  }

  begin(step: number, microBatch: number): void {
    this.#base = (BigInt(step) << STEP_BITS) + BigInt(Math.floor(microBatch / LANES)) * ROUND;
  }

  mayRun({ number }: BoundSegment): boolean {
    const { first } = this.#options;
    // In a round of its own the lane's memory is free once everyone has left the one before; no one else begins a step twice.
    if (number === first && this.#isLaterRound) return this.#haveCome(this.#others.map((rank) => ({ rank, count: 0 })));
    return this.#haveCome(this.#regions.beforeRun[number - first] ?? []);
  }

  publish(segment: BoundSegment): number {
    this.#come(this.#base + BigInt(segment.number - this.#options.first + 1));
    return sentBytes(segment);
  }

  hasArrived({ number }: BoundSegment): boolean {
    return this.#haveCome(this.#regions.afterRun[number - this.#options.first] ?? []);
  }

  end(): void {
    this.#come(this.#base + ROUND);
  }

  get #isLaterRound(): boolean {
    return (this.#base & ((1n << STEP_BITS) - 1n)) !== 0n;
  }

  #view(rank: number, region: Region | undefined): Uint8Array | undefined {
    const { link, index } = this.#options;
    return region && link.block(rank).bytes(index, region.offset, region.bytes);
  }

  #haveCome(waits: readonly Wait[]): boolean {
    const { link, index } = this.#options;
    const late = waits.filter(({ rank, count }) => link.block(rank).count(index) < this.#base + BigInt(count));
    const missing = late.map(({ rank }) => rank);
    link.note(index, missing);
    return missing.length === 0;
  }

  #come(count: bigint): void {
    const { link, index } = this.#options;
    this.#own.setCount(index, count);
    for (const rank of this.#others) link.block(rank).ring();
  }
}
