/**
 * Moves tensors between ranks: after a segment a rank pushes that segment's `sends` to its peers and waits for its
 * `receives`. A faster peer may already send for a later segment or step; what arrives early is kept until asked for.
 */
import { TandemError } from '../common/errors.js';
import { byteLength, type HostTensor } from '../common/tensor.js';
import type { Receive, Send } from '../partition/write/manifest.js';
import { stepAbandoned } from './abandoned.js';
import type { BufferPool } from './buffers.js';
import { DroppedFrames } from './dropped-frames.js';
import { decodeHeader, encodeHeader, type PieceHeader, type Place, pieceCount, pieceOf, placeKey } from './frames.js';
import { checkRoom, type Expected, expectedOf, Gathering, type Programs, tensorKey } from './gathering.js';
import { type ExchangeInbox, ExchangeOutbox } from './transport.js';

export interface ExchangeOptions {
  readonly rank: number;
  readonly profile: Programs;
  readonly inbox: ExchangeInbox;
  /** Where arriving tensors take their memory from. */
  readonly buffers: BufferPool;
  /** Endpoints of all ranks' inboxes; index is the rank. */
  readonly peers: readonly string[];
  /** Public keys of the inboxes that are ports; index is the rank. */
  readonly keys?: readonly string[];
  /** Longest wait for the peers' tensors of one segment, in ms. */
  readonly timeoutMs: number;
  /** What arrives for this step and earlier ones is dropped: leftovers of a step that was abandoned. */
  readonly afterStep: number;
}

/** What was sent after a segment, until nobody can still be reading it. */
interface Sending {
  readonly place: Place;
  /** Ranks that have not sent anything of a later segment: until then they may lack some of it. */
  readonly waiting: Set<number>;
  readonly tensors: readonly HostTensor[];
}

/** One rank's end of the exchange. */
export class Exchange {
  readonly #options: ExchangeOptions;
  readonly #expected: readonly Expected[];
  #outboxes: ReadonlyMap<number, ExchangeOutbox> = new Map();
  readonly #gatherings = new Map<string, Gathering>();
  #sendings: readonly Sending[] = [];
  /** Those that somebody waits for. */
  readonly #current = new Set<Gathering>();
  #failure: Error | undefined;
  #abandoned = false;
  readonly #dropped = new DroppedFrames();
  #timeoutMs: number;
  #afterStep: number;

  /** Connects to the peers and starts to listen; peers need not be there yet. */
  constructor(options: ExchangeOptions) {
    const { rank, profile, peers, keys = [], timeoutMs, afterStep } = options;
    this.#options = options;
    this.#timeoutMs = timeoutMs;
    this.#afterStep = afterStep;
    const segments = profile.ranks[rank]?.segments ?? [];
    this.#expected = segments.map((_, segment) => expectedOf(profile, rank, segment));
    this.connect(peers, keys, timeoutMs);
    this.#listen().catch((error: unknown) => this.#fail(error instanceof Error ? error : new Error(String(error))));
  }

  /** Whether the step under way was abandoned and no peers are connected. */
  get isAbandoned(): boolean {
    return this.#abandoned;
  }

  /** Frames that did not belong here, since the start. */
  get droppedFrames(): number {
    return this.#dropped.count;
  }

  /** Ranks whose tensors are being waited for. */
  get awaiting(): readonly number[] {
    return [...new Set([...this.#current].flatMap((gathering) => gathering.missingRanks()))];
  }

  /**
   * Abandons the step under way: its sends and receives end with `STEP_ABANDONED`, as does every further one until
   * `connect`, and what still arrives of steps up to `afterStep` is dropped.
   */
  abandon(afterStep: number): void {
    this.#abandoned = true;
    this.#afterStep = afterStep;
    for (const gathering of this.#gatherings.values()) gathering.fail(stepAbandoned());
    this.#gatherings.clear();
    // Sockets that are closing may still read these tensors: they are left to the garbage collector.
    this.#sendings = [];
    this.#closeOutboxes();
  }

  /** Connects to the peers' inboxes, which need not be there yet. */
  connect(peers: readonly string[], keys: readonly string[], timeoutMs: number): void {
    this.#closeOutboxes();
    this.#options.inbox.admit(keys);
    const others = peers.map((endpoint, peer) => [peer, endpoint] as const);
    this.#outboxes = new Map(
      others
        .filter(([peer]) => peer !== this.#options.rank)
        .map(([peer, endpoint]) => [peer, new ExchangeOutbox(endpoint, keys[peer])]),
    );
    this.#timeoutMs = timeoutMs;
    this.#abandoned = false;
  }

  /**
   * Sends a segment's tensors to the peers that want them. They must not change until `takeDelivered` gives them back.
   * @returns bytes sent, each peer counted
   * @throws TandemError `STEP_ABANDONED`
   */
  async send(place: Place, tensors: Readonly<Record<string, HostTensor>>): Promise<number> {
    if (this.#abandoned) throw stepAbandoned();
    const { segment } = place;
    const sends = this.#options.profile.ranks[this.#options.rank]?.segments[segment]?.sends ?? [];
    this.#remember(place, sends, tensors);
    const sent = sends.flatMap((send, index) => {
      const tensor = tensors[send.tensor];
      if (tensor === undefined)
        throw new TandemError('SEGMENT_OUTPUT', `Segment ${segment} did not produce "${send.tensor}".`);
      return send.to.map((peer) => this.#sendTensor(peer, place, index, tensor.data));
    });
    return (await Promise.all(sent)).reduce((total, bytes) => total + bytes, 0);
  }

  /**
   * Sent tensors that their receivers have. A rank sends after a segment only when all that it waited for after the
   * segment before is there, so what it sends says what it has; and a new step begins when all ranks have ended the last.
   */
  takeDelivered(step: number): readonly HostTensor[] {
    const isDelivered = ({ waiting, place }: Sending): boolean => waiting.size === 0 || place.step < step;
    const delivered = this.#sendings.filter(isDelivered);
    this.#sendings = this.#sendings.filter((sending) => !isDelivered(sending));
    return delivered.flatMap((sending) => sending.tensors);
  }

  /**
   * Waits for all that peers send after this segment.
   * @returns tensors by the name that this rank's later segments use
   * @throws TandemError `EXCHANGE_TIMEOUT`, `STEP_ABANDONED`
   */
  async receive(place: Place): Promise<Record<string, HostTensor>> {
    if (this.#failure) throw this.#failure;
    if (this.#abandoned) throw stepAbandoned();
    const gathering = this.#gathering(place);
    this.#current.add(gathering);
    try {
      return await gathering.complete(this.#timeoutMs);
    } finally {
      this.#current.delete(gathering);
      this.#gatherings.delete(gathering.name);
    }
  }

  close(): void {
    this.#options.inbox.close();
    this.#closeOutboxes();
  }

  #closeOutboxes(): void {
    for (const outbox of this.#outboxes.values()) outbox.close();
    this.#outboxes = new Map();
  }

  #remember(place: Place, sends: readonly Send[], tensors: Readonly<Record<string, HostTensor>>): void {
    const waiting = new Set(sends.flatMap((send) => send.to));
    this.#sendings = [...this.#sendings, { place, waiting, tensors: Object.values(tensors) }];
  }

  #heard({ from, step, microBatch, segment }: PieceHeader): void {
    for (const { place, waiting } of this.#sendings) {
      const isLater = microBatch === place.microBatch && segment > place.segment;
      if (step > place.step || isLater) waiting.delete(from);
    }
  }

  async #sendTensor(peer: number, place: Place, tensor: number, data: Uint8Array): Promise<number> {
    const outbox = this.#outboxes.get(peer);
    if (outbox === undefined)
      throw new TandemError('EXCHANGE_PEER', `Rank ${peer} is not among the peers of rank ${this.#options.rank}.`);
    const header = { ...place, from: this.#options.rank, tensor, totalBytes: data.byteLength };
    const pieces = Array.from({ length: pieceCount(data.byteLength) }, (_, piece) =>
      outbox.send(encodeHeader({ ...header, piece }), pieceOf(data, piece)),
    );
    await Promise.all(pieces);
    return data.byteLength;
  }

  /** What does not belong here is dropped: if a tensor is then missing, its step ends at its deadline, and no other does. */
  async #listen(): Promise<void> {
    for await (const [header, payload] of this.#options.inbox.pieces()) {
      try {
        this.#take(decodeHeader(header), payload ?? Buffer.alloc(0));
      } catch (error) {
        this.#dropped.add(error);
      }
    }
  }

  #take(header: PieceHeader, payload: Buffer): void {
    if (header.step <= this.#afterStep) return;
    const receive = this.#expectation(header);
    this.#gathering(header).add(header, receive, payload);
    this.#heard(header);
  }

  #expectation(header: PieceHeader): Receive {
    const receive = this.#expected[header.segment]?.get(tensorKey(header.from, header.tensor));
    if (receive !== undefined && byteLength(receive) === header.totalBytes) return receive;
    const expected = receive === undefined ? 'nothing' : `"${receive.name}" of ${byteLength(receive)} bytes`;
    throw new TandemError(
      'EXCHANGE_FRAME',
      `Rank ${this.#options.rank} expected ${expected} after segment ${header.segment}, but rank ${header.from} sent its tensor ${header.tensor} of ${header.totalBytes} bytes; both must read the same shard directory.`,
    );
  }

  #gathering(place: Place): Gathering {
    const name = placeKey(place);
    const existing = this.#gatherings.get(name);
    if (existing) return existing;
    checkRoom(this.#gatherings, name);
    const gathering = new Gathering(
      name,
      this.#expected[place.segment] ?? new Map(),
      this.#options.rank,
      this.#options.buffers,
      () => this.#dropped.summary,
    );
    this.#gatherings.set(name, gathering);
    return gathering;
  }

  #fail(error: Error): void {
    this.#failure = error;
    for (const gathering of this.#gatherings.values()) gathering.fail(error);
  }
}
