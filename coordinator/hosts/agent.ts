/**
 * What `tandem worker` does: joins a leader, gets its ranks' files, runs their workers, and carries what they and the leader say to
 * each other. When the leader is lost it keeps the workers and looks for the next one.
 */
import { randomUUID } from 'node:crypto';
import { availableParallelism } from 'node:os';
import { join as joinPath } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { TandemError } from '../../common/errors.js';
import { findTarget } from '../../partition/write/optimise/target.js';
import { whyNoSharedMemory } from '../../shard-worker/shared-memory/system.js';
import { type Deferred, deferred } from './deferred.js';
import { KeptWorkers } from './kept-workers.js';
import { readLeaderKey, readSecret } from './key-files.js';
import { LeaderLink, type LinkEnd } from './leader-link.js';
import { measureLink, ProbePort } from './link-probe.js';
import { type FromHost, JOIN_PROTOCOL, type Join, type StartOrder, type ToHost } from './messages.js';
import { type NetworkOrder, ReceivedFiles } from './received-files.js';
import { ownVersions } from './versions.js';

/** How often stopped workers are looked for, and the state is told; ms. */
const LOOK_MS = 100;
const TELL_EVERY = 10;
/** Between two links, in ms. */
const AGAIN_MS = 100;
const REFUSED_MS = 1000;

export type HostState = 'waiting' | 'joined' | 'running';

export interface AgentOptions {
  /** The leader's join port. */
  readonly endpoint: string;
  /** Directory with the keys. */
  readonly keys: string;
  readonly name: string;
  readonly index?: number;
  /** IP address of this host, as the others reach it. */
  readonly address: string;
  /** Where received files are kept. */
  readonly cache: string;
  readonly model?: string;
  /** Whether to end with the leader. */
  readonly once: boolean;
  /** How long to look for a leader; ms, 0 for ever. */
  readonly waitMs: number;
  readonly onNotice: (message: string) => void;
  readonly onState: (state: HostState) => void;
  readonly signal: AbortSignal;
}

type Piece = Pick<Extract<FromHost, { kind: 'want' }>, 'id' | 'network' | 'path' | 'offset'>;

const pieceName = ({ id, network, path, offset }: Piece): string => `${id} ${network} ${path} ${offset}`;

type Message = Exclude<ToHost, { kind: 'refused' | 'ping' }>;

export class Agent {
  readonly #options: AgentOptions;
  readonly #workers: KeptWorkers;
  readonly #probe: ProbePort;
  readonly #files: ReceivedFiles;
  readonly #join: Omit<Join, 'proof'>;
  readonly #pieces = new Map<string, Deferred<Buffer>>();
  #link: LeaderLink | undefined;
  #starts: Promise<void> = Promise.resolve();
  #toldStopped = '';
  #looks = 0;
  #isDone = false;
  #failure: TandemError | undefined;
  #leaderlessSince: number | undefined = performance.now();

  private constructor(options: AgentOptions, probe: ProbePort, workers: KeptWorkers, join: Omit<Join, 'proof'>) {
    this.#options = options;
    this.#probe = probe;
    this.#workers = workers;
    this.#join = join;
    this.#files = new ReceivedFiles(joinPath(options.cache, 'received'));
  }

  /** @throws TandemError `KEYS_INVALID` */
  static async open(options: AgentOptions): Promise<Agent> {
    const { name, publicKey } = readSecret(options.keys, options.name);
    readLeaderKey(options.keys);
    const probe = await ProbePort.open(options.address);
    let agent: Agent | undefined;
    const workers = await KeptWorkers.open({
      address: options.address,
      say: (message) => agent?.say(message),
      onUnasked: ({ networks }) => agent?.doubt(networks),
    });
    const { index, model } = options;
    agent = new Agent(options, probe, workers, {
      kind: 'join',
      protocol: JOIN_PROTOCOL,
      versions: ownVersions(),
      name,
      key: publicKey,
      instance: randomUUID(),
      layout: (await findTarget('cpu'))?.layout ?? '',
      cores: availableParallelism(),
      shares_memory: whyNoSharedMemory() === undefined,
      probe: { endpoint: probe.endpoint, key: probe.key },
      ...(index === undefined ? {} : { index }),
      ...(model === undefined ? {} : { model }),
    });
    return agent;
  }

  /** To the leader, if there is one. */
  say(message: FromHost): void {
    this.#link?.say(message);
  }

  doubt(networks: readonly NetworkOrder[]): void {
    this.#files.doubt(networks);
  }

  /**
   * Serves one leader after another until it is told to end.
   * @throws TandemError `JOIN_*`; the signal's reason
   */
  async serve(): Promise<void> {
    const looker = setInterval(() => this.#look(), LOOK_MS);
    const stop = (): void => this.#link?.close();
    this.#options.signal.addEventListener('abort', stop, { once: true });
    try {
      while (!this.#isDone) await this.#serveOne();
    } finally {
      clearInterval(looker);
      this.#options.signal.removeEventListener('abort', stop);
      await this.#workers.close();
      this.#probe.close();
    }
  }

  async #serveOne(): Promise<void> {
    const { endpoint, keys, name, signal } = this.#options;
    signal.throwIfAborted();
    const link = new LeaderLink({
      endpoint,
      leaderKey: readLeaderKey(keys),
      keys: readSecret(keys, name),
      join: this.#join,
      onMessage: (message) => this.#take(message),
    });
    this.#link = link;
    try {
      await this.#after(await link.ended, link);
    } finally {
      link.say({ kind: 'leave' });
      link.close();
      this.#abandon();
    }
    if (!this.#isDone) await delay(AGAIN_MS);
    signal.throwIfAborted();
  }

  /** A host that holds loaded workers outlasts a leader that does not want it: the next one may. */
  async #after(end: LinkEnd, link: LeaderLink): Promise<void> {
    const { onNotice, signal } = this.#options;
    if (this.#failure !== undefined) throw this.#failure;
    if (signal.aborted) return;
    if (end.kind === 'again') {
      if (link.hasJoined && !this.#isDone) onNotice('The leader is gone; waiting for the next one.');
      return;
    }
    if (this.#workers.count === 0) throw end.error;
    onNotice(`${end.error.message} Waiting on, with the workers kept.`);
    await delay(REFUSED_MS, undefined, { signal }).catch(() => undefined);
  }

  #take(message: Message): void {
    switch (message.kind) {
      case 'welcome':
        this.#leaderlessSince = undefined;
        this.#options.onNotice(`Joined the leader at ${this.#options.endpoint} as host ${message.name}.`);
        return;
      case 'start':
        this.#starts = this.#starts.then(() => this.#start(message));
        return;
      case 'piece':
        this.#pieces.get(pieceName(message))?.resolve(message.data);
        return;
      case 'to_worker':
        this.#workers.send(message.id, message.frame);
        return;
      case 'kill':
        this.#workers.kill(message.id, message.signal);
        return;
      case 'probe_for':
        this.#probe.admit(message.keys);
        return;
      case 'measure':
        void this.#measure(message);
        return;
      case 'bye':
        this.#isDone = this.#options.once;
        this.#link?.close();
        return;
      default:
        message satisfies never;
    }
  }

  /** One after the other: they share the way to the leader, and some of the files. */
  async #start(order: StartOrder): Promise<void> {
    const link = this.#link;
    if (this.#workers.takeOver(order)) return;
    try {
      await this.#workers.makeRoom(order);
      const directories: Record<string, string> = {};
      for (const network of order.networks)
        directories[network.name] = await this.#files.directoryOf(network, (path, offset) =>
          this.#ask({ id: order.id, network: network.name, path, offset }),
        );
      if (link === this.#link) this.#workers.start(order, directories);
    } catch (error) {
      const problem = error instanceof Error ? error.message : String(error);
      if (link === this.#link) link?.say({ kind: 'not_started', id: order.id, problem });
    }
  }

  async #ask(wanted: Piece): Promise<Buffer> {
    const asked = deferred<Buffer>();
    const name = pieceName(wanted);
    this.#pieces.set(name, asked);
    this.#link?.say({ kind: 'want', ...wanted });
    try {
      return await asked.promise;
    } finally {
      this.#pieces.delete(name);
    }
  }

  async #measure({ to, endpoint, key }: Extract<Message, { kind: 'measure' }>): Promise<void> {
    const { wireBytesPerMs = 0, latencyMs = 0 } = (await measureLink(endpoint, key)) ?? {};
    this.#link?.say({ kind: 'measured', to, bytes_per_ms: wireBytesPerMs, latency_ms: latencyMs });
  }

  /** The leader is gone: what was asked of it will not be answered. */
  #abandon(): void {
    this.#link = undefined;
    this.#leaderlessSince ??= performance.now();
    const gone = new TandemError('HOST_FILES', 'The leader is gone before it had sent all files.');
    for (const piece of this.#pieces.values()) piece.reject(gone);
    this.#workers.release();
  }

  #look(): void {
    const stopped = [...this.#workers.stopped];
    const isNews = stopped.join() !== this.#toldStopped;
    this.#toldStopped = stopped.join();
    this.#looks += 1;
    if (this.#link?.hasJoined && (isNews || this.#looks % 2 === 0)) this.#link.say({ kind: 'pong', stopped });
    if (this.#looks % TELL_EVERY === 1) this.#options.onState(this.#state());
    if (this.#leaderlessSince !== undefined) this.#lookForEnd(performance.now() - this.#leaderlessSince);
  }

  #state(): HostState {
    if (this.#link?.hasJoined !== true) return 'waiting';
    return this.#workers.count > 0 ? 'running' : 'joined';
  }

  #lookForEnd(leaderlessMs: number): void {
    const { waitMs, endpoint } = this.#options;
    if (this.#workers.count > 0 && leaderlessMs > this.#workers.keepWarmMs) void this.#workers.endAll();
    if (waitMs === 0 || leaderlessMs < waitMs || this.#failure !== undefined) return;
    this.#failure = new TandemError(
      'JOIN_TIMEOUT',
      `Expected a leader at ${endpoint} within ${waitMs / 1000} s; found none. Start "tandem launch" there, or raise --wait-s.`,
    );
    this.#link?.close();
  }
}
