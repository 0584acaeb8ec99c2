/**
 * One rank's shared memory: a page of words, and behind it the lanes with its tensors. The rank itself writes its tensors and how far
 * it has come; its peers ring its bell. Every word has a cache line of its own.
 *
 *     0     magic u32, version u32, token (16 bytes), digest of the ranks' programs (32 bytes)
 *     64    bell u32: counts; what the rank sleeps on
 *     128   whether it sleeps, u32
 *     192.. by lane: how far it has come, u64: step << 32 | round << 16 | segments run
 *     4096  lane 0, lane 1, ...
 */
import { TandemError } from '../../common/errors.js';
import { LANES } from '../link.js';
import { type Mapping, mapMemory, openMemory, sleepOn, wake } from './system.js';

const MAGIC = 0x444e_4154;
const VERSION = 1;
const TOKEN_BYTES = 16;
const WORDS_BYTES = 4096;
const LINE = 64;
const BELL = LINE;
const SLEEPS = 2 * LINE;
const COUNTS = 3 * LINE;
const PAGE = 4096;

/** What a block must be to be the right one. */
export interface BlockIdentity {
  /** 32 hex digits, made up by its owner. */
  readonly token: string;
  readonly digest: Uint8Array;
}

const identityBytes = ({ token, digest }: BlockIdentity): Buffer => {
  const words = Buffer.alloc(8);
  words.writeUInt32LE(MAGIC, 0);
  words.writeUInt32LE(VERSION, 4);
  return Buffer.concat([words, Buffer.from(token, 'hex').subarray(0, TOKEN_BYTES), digest]);
};

const strideOf = (laneBytes: number): number => Math.ceil(laneBytes / PAGE) * PAGE;

/** Of a rank's whole memory. */
export const blockBytes = (laneBytes: number): number => WORDS_BYTES + LANES * strideOf(laneBytes);

export class Block {
  readonly #mapping: Mapping;
  readonly #stride: number;
  readonly #bell: Int32Array;
  readonly #sleeps: Int32Array;
  readonly #counts: BigInt64Array;

  private constructor(mapping: Mapping, laneBytes: number) {
    const { memory } = mapping;
    this.#mapping = mapping;
    this.#stride = strideOf(laneBytes);
    this.#bell = new Int32Array(memory, BELL, 1);
    this.#sleeps = new Int32Array(memory, SLEEPS, 1);
    this.#counts = new BigInt64Array(memory, COUNTS, ((LANES - 1) * LINE) / BigInt64Array.BYTES_PER_ELEMENT + 1);
  }

  /** This rank's own. @param fd memory of `blockBytes` */
  static own(fd: number, laneBytes: number, identity: BlockIdentity): Block {
    const mapping = mapMemory(fd, blockBytes(laneBytes));
    new Uint8Array(mapping.memory).set(identityBytes(identity));
    return new Block(mapping, laneBytes);
  }

  /** A peer's. @throws TandemError `SHARED_MEMORY` where it is gone or another one */
  static of(path: string, laneBytes: number, identity: BlockIdentity): Block {
    const mapping = openMemory(path, blockBytes(laneBytes));
    const expected = identityBytes(identity);
    if (expected.equals(new Uint8Array(mapping.memory, 0, expected.length))) return new Block(mapping, laneBytes);
    mapping.unmap();
    throw new TandemError(
      'SHARED_MEMORY',
      `Expected the memory of a rank of this group at ${path}, found another one; both ranks must read the same shard directory.`,
    );
  }

  bytes(lane: number, offset: number, length: number): Uint8Array {
    return new Uint8Array(this.#mapping.memory, WORDS_BYTES + lane * this.#stride + offset, length);
  }

  /** How far the rank has come in a lane. */
  count(lane: number): bigint {
    return Atomics.load(this.#counts, (lane * LINE) / BigInt64Array.BYTES_PER_ELEMENT);
  }

  setCount(lane: number, count: bigint): void {
    Atomics.store(this.#counts, (lane * LINE) / BigInt64Array.BYTES_PER_ELEMENT, count);
  }

  get rings(): number {
    return Atomics.load(this.#bell, 0);
  }

  /** Tells the rank that something has changed. */
  ring(): void {
    Atomics.add(this.#bell, 0, 1);
    if (Atomics.load(this.#sleeps, 0) !== 0) wake(this.#mapping.address + BigInt(BELL));
  }

  /** The rank itself: sleeps until the bell is rung more often than that, or for `ms`. */
  sleep(rings: number, ms: number): void {
    Atomics.store(this.#sleeps, 0, 1);
    sleepOn(this.#mapping.address + BigInt(BELL), rings, ms);
    Atomics.store(this.#sleeps, 0, 0);
  }

  /** Nobody may touch its bytes any more. */
  close(): void {
    this.#mapping.unmap();
  }
}
