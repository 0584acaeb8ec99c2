/**
 * An exchange through shared memory. The runtime writes what a segment sends straight into the rank's own block, and reads what
 * peers sent straight from theirs: no tensor is copied. All that passes between ranks is how far each has come (`regions.ts`), and
 * a bell for those that sleep. Step ids rise with every attempt, so what an abandoned step has left is behind every later one.
 */
import { TandemError } from '../../common/errors.js';
import { stepAbandoned } from '../abandoned.js';
import type { Lane, Link } from '../link.js';
import type { JoinedProgram } from '../program.js';
import type { ThreadStatus } from '../thread-status.js';
import { parseAddress } from './address.js';
import { Block, type BlockIdentity, blockBytes } from './block.js';
import { SharedMemoryLane } from './lane.js';
import { digestOf, type NetworkRegions, placeRegions } from './regions.js';
import { sizeMemory } from './system.js';

/** A peer that is there answers within microseconds; longer than this, sleeping costs less than the core that a peer may need. */
const SPIN_MS = 0.02;
const LOOKS_BETWEEN_TIMES = 50;
/** How long a step that was abandoned may go unnoticed. */
const SLEEP_MS = 20;

export interface SharedMemoryOptions {
  readonly rank: number;
  /** This rank's memory. */
  readonly fd: number;
  /** All ranks' addresses; index is the rank. */
  readonly memories: readonly string[];
  readonly program: JoinedProgram;
  /** Longest wait for a peer, in ms. */
  readonly timeoutMs: number;
}

const networksOf = ({ ranks, stretches }: JoinedProgram): ReadonlyMap<number, NetworkRegions> =>
  new Map(
    stretches.map(({ first, count }) => {
      const program = ranks.map(({ segments }) => ({ segments: segments.slice(first, first + count) }));
      const members = program.flatMap(({ segments }, rank) => (segments.some(({ file }) => file !== '') ? [rank] : []));
      return [first, { ranks: program.map((_, rank) => placeRegions(program, rank)), members }];
    }),
  );

/** Whether memory cannot be opened because its process has ended. */
const isGone = (error: unknown): boolean =>
  error instanceof TandemError && ['ENOENT', 'ESRCH'].includes(String(Reflect.get(Object(error.cause), 'code')));

const laneBytesOf = (networks: Iterable<NetworkRegions>, rank: number): number =>
  Math.max(0, ...[...networks].map(({ ranks }) => ranks[rank]?.bytes ?? 0));

export class SharedMemoryLink implements Link {
  readonly #options: SharedMemoryOptions;
  readonly #status: ThreadStatus;
  readonly #networks: ReadonlyMap<number, NetworkRegions>;
  readonly #digest: Uint8Array;
  readonly #own: Block;
  /** By rank; opened by the first step, when all ranks have loaded. */
  readonly #peers = new Map<number, Block>();
  /** What stands between a lane and its next segment. */
  readonly #missing = new Map<number, readonly number[]>();
  #rings = 0;
  #waitingSince: number | undefined;
  #isAwaiting = false;

  /** @throws TandemError `SHARED_MEMORY` */
  constructor(options: SharedMemoryOptions, status: ThreadStatus) {
    const { rank, fd, program } = options;
    this.#options = options;
    this.#status = status;
    this.#networks = networksOf(program);
    this.#digest = digestOf(program.ranks);
    const laneBytes = laneBytesOf(this.#networks.values(), rank);
    sizeMemory(fd, blockBytes(laneBytes));
    this.#own = Block.own(fd, laneBytes, this.#identity(rank));
  }

  lane(index: number, network: number): Lane {
    const found = this.#networks.get(network);
    if (found === undefined) throw new RangeError(`Expected the first segment of a network, found segment ${network}.`);
    return new SharedMemoryLane({ link: this, index, first: network, network: found, rank: this.#options.rank });
  }

  block(rank: number): Block {
    if (rank === this.#options.rank) return this.#own;
    const found = this.#peers.get(rank) ?? this.#open(rank);
    this.#peers.set(rank, found);
    return found;
  }

  /** Says what a lane waits for, or that it waits no more. */
  note(lane: number, missing: readonly number[]): void {
    this.#missing.set(lane, missing);
    if (missing.length > 0) return;
    this.#waitingSince = undefined;
    if (this.#isAwaiting) this.#status.setAwaiting([]);
    this.#isAwaiting = false;
  }

  look(): void {
    this.#rings = this.#own.rings;
  }

  wait(): void {
    if (this.#spin()) return;
    const ranks = [...new Set([...this.#missing.values()].flat())];
    this.#waitingSince ??= performance.now();
    if (performance.now() - this.#waitingSince > this.#options.timeoutMs) throw this.#timeout(ranks);
    this.#status.setAwaiting(ranks);
    this.#isAwaiting = true;
    this.#own.sleep(this.#rings, SLEEP_MS);
  }

  close(): void {
    for (const block of this.#peers.values()) block.close();
    this.#own.close();
  }

  /** @returns whether the bell was rung */
  #spin(): boolean {
    const end = performance.now() + SPIN_MS;
    do {
      for (let look = 0; look < LOOKS_BETWEEN_TIMES; look++) if (this.#own.rings !== this.#rings) return true;
    } while (performance.now() < end);
    return false;
  }

  #identity(rank: number): BlockIdentity {
    return { token: parseAddress(this.#options.memories[rank]).token, digest: this.#digest };
  }

  /** A peer that ended before it could be reached is waited for like one that sends nothing: the step is abandoned soon. */
  #open(rank: number): Block {
    const { path } = parseAddress(this.#options.memories[rank]);
    const since = performance.now();
    while (performance.now() - since <= this.#options.timeoutMs) {
      if (this.#status.isAbandoned) throw stepAbandoned();
      try {
        return Block.of(path, laneBytesOf(this.#networks.values(), rank), this.#identity(rank));
      } catch (error) {
        if (!isGone(error)) throw error;
      }
      this.#status.setAwaiting([rank]);
      this.#isAwaiting = true;
      this.#own.sleep(this.#own.rings, SLEEP_MS);
    }
    throw this.#timeout([rank]);
  }

  #timeout(ranks: readonly number[]): TandemError {
    const { rank, timeoutMs } = this.#options;
    return new TandemError(
      'EXCHANGE_TIMEOUT',
      `Rank ${rank} waited ${timeoutMs} ms for the tensors of rank ${ranks.join(', ')}; look at why that rank is stuck, or raise the step timeout.`,
    );
  }
}
