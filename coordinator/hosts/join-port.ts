/**
 * The leader's side: the port where further hosts join, who of them is there, and the workers that they run. A host is lost when it
 * says nothing for as long as a worker may; its workers are lost with it, and its place is a spare's, or its own when it comes back.
 */
import { TandemError } from '../../common/errors.js';
import { ControlServer } from '../../shard-worker/transport.js';
import type { HostPool, RemoteOrder, WorkerHandle } from '../cluster/index.js';
import type { HostsConfig } from '../config/index.js';
import { Admission } from './admission.js';
import { deferred } from './deferred.js';
import { Guest } from './guest.js';
import { LinkMeter } from './link-meter.js';
import { decode, encode, type FromHost, firstMessage, fromHost, type Join, type ToHost } from './messages.js';
import { RemoteWorker } from './remote-worker.js';
import { refusePlace, type Seat, Seats } from './seats.js';

const PING_MS = 200;
/** How long a host that sits where another wants to sit has to show that it is there, in ms. */
const CHALLENGE_MS = 700;

export interface JoinPortOptions {
  readonly config: HostsConfig;
  /** This host's address, as the others reach it. */
  readonly address: string;
  /** What hosts know the model by: its name, and its digest. */
  readonly model: string;
  /** Silence after which a host is lost, in ms. */
  readonly heartbeatMs: number;
  readonly onNotice: (message: string) => void;
}

export class JoinPort implements HostPool {
  readonly #options: JoinPortOptions;
  readonly #server: ControlServer;
  readonly #admission: Admission;
  readonly #seats: Seats;
  readonly #guests = new Map<string, Guest>();
  readonly #pinger: NodeJS.Timeout;
  readonly meter: LinkMeter;
  #onChange: () => void = () => undefined;
  #closed = false;
  #lastTick = performance.now();

  private constructor(options: JoinPortOptions, server: ControlServer, admission: Admission, meter: LinkMeter) {
    this.#options = options;
    this.#server = server;
    this.#admission = admission;
    this.meter = meter;
    this.#seats = new Seats(options.config.seats);
    this.#pinger = setInterval(() => this.#tick(), PING_MS);
    this.#listen().catch((cause: unknown) => options.onNotice(`The join port failed: ${String(cause)}`));
  }

  /** @throws TandemError `KEYS_INVALID`, those of `ControlServer.listen` */
  static async open(options: JoinPortOptions): Promise<JoinPort> {
    const admission = await Admission.open(options.config.keys, options.model);
    const { keys } = admission;
    const door = { keys, guests: (key: string) => admission.isListed(key) };
    const server = await ControlServer.listen(options.config.listen, { door });
    return new JoinPort(options, server, admission, await LinkMeter.open(options.address));
  }

  get endpoint(): string {
    return this.#server.endpoint;
  }

  get address(): string {
    return this.#options.address;
  }

  /** Bytes of shards that were sent to hosts which are there. */
  get sentBytes(): number {
    return this.#seats.guests.reduce((sum, { sentBytes }) => sum + sentBytes, 0);
  }

  sharesMemory(host: string): boolean {
    return this.#seats.byName(host)?.guest?.join.shares_memory ?? false;
  }

  coresOf(host: string): number | undefined {
    return this.#seats.byName(host)?.guest?.join.cores;
  }

  /** The hosts that sit somewhere, by the names of their places. */
  get seated(): ReadonlyMap<string, Guest> {
    return new Map(this.#seats.all.flatMap(({ name, guest }) => (guest === undefined ? [] : [[name, guest]])));
  }

  /**
   * Waits until all hosts are there, and says whom it waits for.
   * @throws TandemError `HOSTS_MISSING`; the signal's reason
   */
  async whole(timeoutMs: number, signal?: AbortSignal): Promise<void> {
    const { promise, resolve, reject } = deferred<void>();
    const timer = setTimeout(() => reject(this.#hostsMissing(timeoutMs)), Math.min(timeoutMs, 2 ** 31 - 1));
    const stop = (): void => reject(signal?.reason);
    signal?.addEventListener('abort', stop, { once: true });
    this.#onChange = () => {
      const { missing } = this.#seats;
      if (missing.length === 0) resolve();
      else
        this.#options.onNotice(
          `Waiting for ${missing.length} hosts to join at ${this.endpoint}: ${missing.join(', ')}.`,
        );
    };
    try {
      signal?.throwIfAborted();
      this.#onChange();
      await promise;
    } finally {
      clearTimeout(timer);
      signal?.removeEventListener('abort', stop);
      this.#onChange = () => undefined;
    }
  }

  start(order: RemoteOrder): WorkerHandle {
    const worker = new RemoteWorker(order);
    const seat = this.#seats.byName(order.host);
    if (seat === undefined) worker.exited({ code: null, signal: null }, [`There is no host "${order.host}".`]);
    else {
      seat.workers.push(worker);
      seat.guest?.start(worker);
    }
    return worker;
  }

  /** Hosts are told that this leader ends. */
  async close(): Promise<void> {
    if (this.#closed) return;
    this.#closed = true;
    clearInterval(this.#pinger);
    await Promise.all([...this.#guests.values()].map((guest) => guest.say({ kind: 'bye' })));
    for (const guest of this.#guests.values()) guest.lost('', 'The leader ends.');
    this.#server.close();
    this.meter.close();
  }

  #hostsMissing(timeoutMs: number): TandemError {
    const { missing } = this.#seats;
    return new TandemError(
      'HOSTS_MISSING',
      `Expected all hosts to join at ${this.endpoint} within ${timeoutMs / 1000} s; missing are ${missing.join(', ')}. Start "tandem worker --join" there, or raise timeouts.join_s.`,
    );
  }

  async #listen(): Promise<void> {
    for await (const { from, frame } of this.#server.messages()) {
      const guest = this.#guests.get(from);
      if (guest === undefined) await this.#meet(from, frame);
      else this.#hear(guest, frame);
    }
  }

  #hear(guest: Guest, frame: Buffer): void {
    const message = decode<FromHost>(fromHost, frame);
    if (message === undefined || message.kind === 'join') return;
    if (message.kind === 'leave') this.#lose(guest, 'it has left');
    else guest.receive(message);
  }

  /** A host that is not known is one that joins, or one that was lost and does not know it. */
  async #meet(link: string, frame: Buffer): Promise<void> {
    const say = (message: ToHost): Promise<void> => this.#server.send(link, encode(message)).catch(() => undefined);
    const first = decode(firstMessage, frame);
    if (first === undefined) return say({ kind: 'refused', code: 'JOIN_AGAIN', message: 'Join again.' });
    const join = decode<FromHost>(fromHost, frame);
    try {
      const admitted = this.#admission.check(first.protocol, join?.kind === 'join' ? join : undefined, link);
      await this.#admit(link, admitted);
    } catch (error) {
      if (!(error instanceof TandemError)) throw error;
      await say({ kind: 'refused', code: error.code, message: error.message });
    }
  }

  async #admit(link: string, join: Join): Promise<void> {
    const guest = new Guest({
      link,
      join,
      send: (frame) => this.#server.send(link, frame),
      onMeasured: (to, wireBytesPerMs, latencyMs) => this.meter.told(guest, to, { wireBytesPerMs, latencyMs }),
    });
    const holder = this.#seats.holderFor(guest);
    if (holder === undefined) this.#seat(guest);
    else if (holder.join.instance === join.instance) this.#replace(holder, guest, 'it has joined again');
    else this.#challenge(holder, guest);
  }

  #replace(holder: Guest, guest: Guest, why: string): void {
    this.#lose(holder, why);
    this.#seat(guest);
  }

  /** Two hosts of the same name: the one that sits there keeps its place if it is alive. */
  #challenge(holder: Guest, guest: Guest): void {
    const before = performance.now();
    setTimeout(() => {
      const isAlive = this.#guests.has(holder.link) && holder.heardAt > before;
      if (!isAlive) {
        this.#replace(holder, guest, 'another host has its place');
        return;
      }
      const { name, index } = guest.join;
      const { message, code } = refusePlace(
        `Expected a place that is free; ${index === undefined ? `"${name}"` : `index ${index}`} is taken by another host that is there. Give another --name or --index, or stop the other one.`,
      );
      void this.#server.send(guest.link, encode({ kind: 'refused', code, message })).catch(() => undefined);
    }, CHALLENGE_MS);
  }

  #seat(guest: Guest): void {
    if (this.#closed) return;
    this.#guests.set(guest.link, guest);
    const seat = this.#seats.take(guest);
    void guest.say({ kind: 'welcome', name: seat?.name ?? 'spare' });
    this.#options.onNotice(
      seat === undefined
        ? `Host "${guest.join.name}" has joined as a spare.`
        : `Host ${seat.name} has joined (${guest.join.name}, ${guest.join.cores} cores).`,
    );
    if (seat !== undefined) this.#settle(seat);
  }

  /** What the host of a seat is to run, and nobody runs yet. */
  #settle(seat: Seat): void {
    seat.workers = seat.workers.filter(({ hasEnded }) => !hasEnded);
    for (const worker of seat.workers) seat.guest?.start(worker);
    this.#onChange();
  }

  #lose(guest: Guest, why: string): void {
    this.#guests.delete(guest.link);
    const seat = this.#seats.leave(guest);
    const name = seat?.name ?? guest.join.name;
    this.#options.onNotice(`Host ${name} is lost: ${why}.`);
    guest.lost(name, `Its host ${name} is lost: ${why}.`);
    if (seat === undefined) return;
    if (seat.guest !== undefined) {
      void seat.guest.say({ kind: 'welcome', name: seat.name });
      this.#options.onNotice(`The spare host "${seat.guest.join.name}" takes the place of host ${name}.`);
    }
    this.#settle(seat);
  }

  #tick(): void {
    const now = performance.now();
    // What came while this process did something else waits unread, and is no silence.
    const pauseMs = Math.max(0, now - this.#lastTick - 2 * PING_MS);
    this.#lastTick = now;
    for (const guest of [...this.#guests.values()]) {
      guest.heardAt += pauseMs;
      const silentMs = now - guest.heardAt;
      if (silentMs > this.#options.heartbeatMs) this.#lose(guest, `silent for ${Math.round(silentMs)} ms`);
      else void guest.say({ kind: 'ping' });
    }
  }
}
