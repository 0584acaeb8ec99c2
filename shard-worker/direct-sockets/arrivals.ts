/** What has come over the compute thread's own sockets, until the segments that need it ask for it. */
import { TandemError } from '../../common/errors.js';
import { byteLength, type HostTensor } from '../../common/tensor.js';
import type { Receive } from '../../partition/write/manifest.js';
import type { BufferPool } from '../buffers.js';
import { decodeHeader, type PieceHeader, type Place, placeKey } from '../frames.js';
import { checkRoom, type Expected, expectedOf, Gathering, tensorKey } from '../gathering.js';
import type { JoinedProgram } from '../program.js';

export interface ArrivalsOptions {
  readonly rank: number;
  readonly program: JoinedProgram;
  readonly buffers: BufferPool;
  /** What arrives for this step and earlier ones is dropped. */
  readonly afterStep: number;
}

export class Arrivals {
  readonly #options: ArrivalsOptions;
  readonly #expected: readonly Expected[];
  readonly #gatherings = new Map<string, Gathering>();
  /** Why the first frame that did not belong here was dropped. */
  #dropped = '';

  constructor(options: ArrivalsOptions) {
    const { rank, program } = options;
    this.#options = options;
    this.#expected = (program.ranks[rank]?.segments ?? []).map((_, segment) => expectedOf(program, rank, segment));
  }

  /** Takes one piece. What does not belong here is dropped: if a tensor is then missing, its step ends at its deadline. */
  add(headerBytes: Uint8Array, payload: Uint8Array): void {
    try {
      const header = decodeHeader(Buffer.from(headerBytes));
      if (header.step > this.#options.afterStep) this.#take(header, payload);
    } catch (error) {
      if (!(error instanceof TandemError)) throw error;
      this.#dropped ||= ` A frame was dropped before: ${error.message}`;
    }
  }

  /** Copies what arrived after a segment to where it is read, once all of it is there. @returns whether it was */
  take(place: Place, into: readonly HostTensor[]): boolean {
    const gathering = this.#gathering(place);
    const arrived = gathering.tensors();
    if (arrived === undefined) return false;
    const receives = this.#options.program.ranks[this.#options.rank]?.segments[place.segment]?.receives ?? [];
    for (const [index, { name }] of receives.entries()) {
      const tensor = arrived[name];
      if (tensor !== undefined) into[index]?.data.set(tensor.data);
    }
    this.#options.buffers.give(Object.values(arrived));
    this.#gatherings.delete(placeKey(place));
    return true;
  }

  /** Ranks of which something is missing at any of these places. */
  missingRanks(places: readonly Place[]): readonly number[] {
    return [...new Set(places.flatMap((place) => this.#gathering(place).missingRanks()))];
  }

  timeout(places: readonly Place[], timeoutMs: number): TandemError {
    const late = places.map((place) => this.#gathering(place)).find((one) => one.missingRanks().length > 0);
    if (late === undefined)
      return new TandemError('EXCHANGE_TIMEOUT', `Rank ${this.#options.rank} waited ${timeoutMs} ms.`);
    const { code, message } = late.timeout(timeoutMs);
    return new TandemError(code, `${message}${this.#dropped}`);
  }

  #take(header: PieceHeader, payload: Uint8Array): void {
    const receive = this.#expectation(header);
    const name = placeKey(header);
    if (!this.#gatherings.has(name)) checkRoom(this.#gatherings, name);
    this.#gathering(header).add(header, receive, payload);
  }

  #expectation(header: PieceHeader): Receive {
    const receive = this.#expected[header.segment]?.get(tensorKey(header.from, header.tensor));
    if (receive !== undefined && byteLength(receive) === header.totalBytes) return receive;
    throw new TandemError(
      'EXCHANGE_FRAME',
      `Rank ${this.#options.rank} did not expect tensor ${header.tensor} of ${header.totalBytes} bytes from rank ${header.from} after segment ${header.segment}; both must read the same shard directory.`,
    );
  }

  #gathering(place: Place): Gathering {
    const name = placeKey(place);
    const found =
      this.#gatherings.get(name) ??
      new Gathering(name, this.#expected[place.segment] ?? new Map(), this.#options.rank, this.#options.buffers);
    this.#gatherings.set(name, found);
    return found;
  }
}
