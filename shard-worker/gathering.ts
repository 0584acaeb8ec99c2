/** The tensors that arrive at a rank after one segment of one step, put together from their pieces. */
import { TandemError } from '../common/errors.js';
import type { HostTensor } from '../common/tensor.js';
import type { Profile, Receive } from '../partition/write/manifest.js';
import type { BufferPool } from './buffers.js';
import { type PieceHeader, pieceCount, pieceOf } from './frames.js';

/** Names a tensor by its sender and its index in the sender's list. */
export const tensorKey = (from: number, tensor: number): string => `${from}:${tensor}`;

/** Index is the rank. */
export type Programs = Pick<Profile, 'ranks'>;

/** What a rank expects after one segment: by sender and index in the sender's list. */
export type Expected = ReadonlyMap<string, Receive>;

export const expectedOf = (profile: Programs, rank: number, segment: number): Expected => {
  const receives = profile.ranks[rank]?.segments[segment]?.receives ?? [];
  return new Map(
    receives.map((receive) => {
      const sends = profile.ranks[receive.from]?.segments[segment]?.sends ?? [];
      return [
        tensorKey(
          receive.from,
          sends.findIndex((send) => send.tensor === receive.tensor),
        ),
        receive,
      ] as const;
    }),
  );
};

/** A tensor of which some pieces are here. Pieces of one sender arrive in order. */
interface Arrival {
  readonly receive: Receive;
  readonly data: Uint8Array;
  readonly pieces: number;
  arrived: number;
}

const startArrival = (receive: Receive, totalBytes: number, buffers: BufferPool): Arrival => ({
  receive,
  data: buffers.take(totalBytes),
  pieces: pieceCount(totalBytes),
  arrived: 0,
});

/** Peers run ahead by a segment or two of each micro-batch; beyond this, what arrives is nobody's. */
const MAX_GATHERINGS = 256;

/** @throws TandemError `EXCHANGE_FRAME` where there are as many already as can be meant */
export const checkRoom = (gatherings: ReadonlyMap<string, Gathering>, name: string): void => {
  if (gatherings.size >= MAX_GATHERINGS)
    throw new TandemError('EXCHANGE_FRAME', `Expected frames of the steps under way, found one of ${name} too many.`);
};

/** Everything that one segment of one step waits for. */
export class Gathering {
  readonly name: string;
  readonly #rank: number;
  readonly #buffers: BufferPool;
  readonly #dropped: () => string;
  readonly #expected: ReadonlyMap<string, Receive>;
  readonly #arrivals = new Map<string, Arrival>();
  #complete = 0;
  #failure: Error | undefined;
  #wake: (() => void) | undefined;

  /** @param dropped what an error is to tell of frames that were dropped */
  constructor(
    name: string,
    expected: ReadonlyMap<string, Receive>,
    rank: number,
    buffers: BufferPool,
    dropped: () => string = () => '',
  ) {
    this.#dropped = dropped;
    this.name = name;
    this.#expected = expected;
    this.#rank = rank;
    this.#buffers = buffers;
  }

  /**
   * Takes one piece; its bytes are copied.
   * @throws TandemError `EXCHANGE_FRAME` for a piece out of order, twice, or of the wrong size
   */
  add(header: PieceHeader, receive: Receive, payload: Uint8Array): void {
    const arrival = this.#arrival(header, receive);
    const target = pieceOf(arrival.data, header.piece);
    if (header.piece !== arrival.arrived || target.byteLength !== payload.byteLength) {
      throw new TandemError(
        'EXCHANGE_FRAME',
        `Rank ${this.#rank} expected piece ${arrival.arrived} of "${receive.name}" (${target.byteLength} bytes) from rank ${header.from} in step/segment ${this.name}, found piece ${header.piece} of ${payload.byteLength} bytes.`,
      );
    }
    target.set(payload);
    arrival.arrived += 1;
    if (arrival.arrived === arrival.pieces) this.#complete += 1;
    if (this.#isComplete) this.#wake?.();
  }

  /** Ends the wait with an error. */
  fail(error: Error): void {
    this.#failure = error;
    this.#wake?.();
  }

  /** Ranks of which something is still missing. */
  missingRanks(): readonly number[] {
    return [...new Set(this.#missing().map((receive) => receive.from))];
  }

  /**
   * Waits until all is here.
   * @throws TandemError `EXCHANGE_TIMEOUT` after `timeoutMs`
   */
  async complete(timeoutMs: number): Promise<Record<string, HostTensor>> {
    if (!this.#isComplete && !this.#failure) await this.#wait(timeoutMs);
    if (this.#failure) throw this.#failure;
    if (!this.#isComplete) throw this.timeout(timeoutMs);
    return this.#made();
  }

  /** All of it by name, once it is here. */
  tensors(): Readonly<Record<string, HostTensor>> | undefined {
    return this.#isComplete ? this.#made() : undefined;
  }

  #made(): Record<string, HostTensor> {
    return Object.fromEntries(
      [...this.#arrivals.values()].map(({ receive, data }) => [
        receive.name,
        { dtype: receive.dtype, shape: receive.shape, data },
      ]),
    );
  }

  get #isComplete(): boolean {
    return this.#complete === this.#expected.size;
  }

  #wait(timeoutMs: number): Promise<void> {
    return new Promise((resolve) => {
      const timer = setTimeout(resolve, timeoutMs);
      this.#wake = () => {
        clearTimeout(timer);
        resolve();
      };
    });
  }

  #arrival(header: PieceHeader, receive: Receive): Arrival {
    const key = tensorKey(header.from, header.tensor);
    const arrival = this.#arrivals.get(key) ?? startArrival(receive, header.totalBytes, this.#buffers);
    this.#arrivals.set(key, arrival);
    return arrival;
  }

  #missing(): readonly Receive[] {
    const here = (key: string): boolean => {
      const arrival = this.#arrivals.get(key);
      return arrival !== undefined && arrival.arrived === arrival.pieces;
    };
    return [...this.#expected].filter(([key]) => !here(key)).map(([, receive]) => receive);
  }

  /** What to say where it took too long. */
  timeout(timeoutMs: number): TandemError {
    const missing = this.#missing().map((receive) => `"${receive.name}" from rank ${receive.from}`);
    return new TandemError(
      'EXCHANGE_TIMEOUT',
      `Rank ${this.#rank} waited ${timeoutMs} ms in step/segment ${this.name} for ${missing.join(', ')}; look at why that rank is stuck, or raise the step timeout.${this.#dropped()}`,
    );
  }
}
