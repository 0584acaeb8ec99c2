/**
 * The few words through which a worker's two threads see each other while a step runs: the compute thread is then inside a segment
 * or asleep, and reads no messages.
 */

const PROGRESS = 0;
const ABANDONED = 1;
const SIGNAL = 2;
const WAITING = 3;
/** From here on a word a rank: whether the compute thread waits for it. */
const AWAITING = 4;

export class ThreadStatus {
  readonly #words: Int32Array;

  /** @param buffer as the other thread has it */
  constructor(buffer: SharedArrayBuffer) {
    this.#words = new Int32Array(buffer);
  }

  static forRanks(count: number): ThreadStatus {
    return new ThreadStatus(new SharedArrayBuffer(Int32Array.BYTES_PER_ELEMENT * (AWAITING + count)));
  }

  /** For the other thread. */
  get buffer(): SharedArrayBuffer {
    return this.#words.buffer as SharedArrayBuffer;
  }

  /** Segments that were run since the thread's start. */
  get progress(): number {
    return Atomics.load(this.#words, PROGRESS);
  }

  segmentDone(): void {
    Atomics.add(this.#words, PROGRESS, 1);
  }

  /** Whether the step under way is to end. */
  get isAbandoned(): boolean {
    return Atomics.load(this.#words, ABANDONED) !== 0;
  }

  setAbandoned(abandoned: boolean): void {
    Atomics.store(this.#words, ABANDONED, abandoned ? 1 : 0);
    this.ring();
  }

  /** Whether the compute thread sleeps until its peers have sent something. */
  get isWaiting(): boolean {
    return Atomics.load(this.#words, WAITING) !== 0;
  }

  setWaiting(waiting: boolean): void {
    Atomics.store(this.#words, WAITING, waiting ? 1 : 0);
  }

  /** Ranks that the compute thread waits for, where it knows. */
  get awaiting(): readonly number[] {
    const ranks = Array.from({ length: this.#words.length - AWAITING }, (_, rank) => rank);
    return ranks.filter((rank) => Atomics.load(this.#words, AWAITING + rank) !== 0);
  }

  setAwaiting(ranks: readonly number[]): void {
    for (let rank = 0; AWAITING + rank < this.#words.length; rank++)
      Atomics.store(this.#words, AWAITING + rank, ranks.includes(rank) ? 1 : 0);
  }

  /** Wakes the compute thread. */
  ring(): void {
    Atomics.add(this.#words, SIGNAL, 1);
    Atomics.notify(this.#words, SIGNAL);
  }

  /** How often the bell was rung. */
  get rings(): number {
    return Atomics.load(this.#words, SIGNAL);
  }

  /** Sleeps until the bell is rung more often than that, or for `ms`. */
  sleep(rings: number, ms: number): void {
    Atomics.wait(this.#words, SIGNAL, rings, ms);
  }
}
