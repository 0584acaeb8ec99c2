/** The shard workers of a host: started for a leader's ranks, kept while there is no leader, and given to the next one. */
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { ControlServer, makeKeys } from '../../shard-worker/transport.js';
import { decodeFromWorker, encodeMessage } from '../../shard-worker/wire.js';
import { endNow, portOn, WORKER_ENTRY, type WorkerHandle, WorkerProcess } from '../cluster/index.js';
import type { FromHost, StartOrder } from './messages.js';

interface Kept {
  /** Routing id under which it speaks to this host. */
  readonly id: string;
  readonly order: StartOrder;
  readonly process: WorkerHandle;
  readonly directories: Readonly<Record<string, string>>;
  /** By which the leader knows it; undefined while it is nobody's. */
  leaderId: string | undefined;
  isLoaded: boolean;
  /** What it says counts from its answer to this on. */
  session: string | undefined;
}

export interface KeptWorkersOptions {
  /** IP address where the workers' exchange listens. */
  readonly address: string;
  readonly say: (message: FromHost) => void;
  /** A worker has ended that nobody had told to. */
  readonly onUnasked: (order: StartOrder) => void;
}

export class KeptWorkers {
  readonly #options: KeptWorkersOptions;
  readonly #directory: string;
  readonly #server: ControlServer;
  readonly #workers = new Map<string, Kept>();
  #count = 0;

  private constructor(options: KeptWorkersOptions, directory: string, server: ControlServer) {
    this.#options = options;
    this.#directory = directory;
    this.#server = server;
    this.#listen().catch(() => undefined);
  }

  static async open(options: KeptWorkersOptions): Promise<KeptWorkers> {
    // mkdtemp makes it with mode 0700: nobody else reaches the sockets in it.
    const directory = mkdtempSync(join(tmpdir(), 'tandem-host-'));
    return new KeptWorkers(options, directory, await ControlServer.listen(`ipc://${join(directory, 'control.sock')}`));
  }

  get count(): number {
    return this.#workers.size;
  }

  /** Those that the leader has, and that are stopped. */
  get stopped(): readonly string[] {
    return [...this.#workers.values()].flatMap(({ leaderId, process }) =>
      leaderId !== undefined && process.isStopped ? [leaderId] : [],
    );
  }

  /** How long those that are nobody's are kept; 0 where there are none. ms */
  get keepWarmMs(): number {
    return Math.max(0, ...[...this.#workers.values()].map(({ order }) => order.keep_warm_ms));
  }

  /** A worker that the last leader left, and that is just what this one wants. */
  takeOver(order: StartOrder): boolean {
    const kept = [...this.#workers.values()].find(
      ({ leaderId, isLoaded, order: { identity }, process }) =>
        leaderId === undefined && isLoaded && identity === order.identity && !process.isStopped,
    );
    if (kept === undefined) return false;
    kept.leaderId = order.id;
    kept.session = order.id;
    this.#tellStarted(kept, true);
    const attach = { kind: 'attach', session: order.id, keep_warm_ms: order.keep_warm_ms } as const;
    void this.#server.send(kept.id, encodeMessage(attach)).catch(() => undefined);
    return true;
  }

  /** Ends the worker that the last leader left for this rank: it has other shards. */
  async makeRoom({ rank }: StartOrder): Promise<void> {
    const others = [...this.#workers.values()].filter(
      ({ leaderId, order }) => leaderId === undefined && order.rank === rank,
    );
    await Promise.all(others.map((kept) => this.#end(kept)));
  }

  start(order: StartOrder, directories: Readonly<Record<string, string>>): void {
    this.#count += 1;
    const id = `${order.rank}-${this.#count}`;
    const file = (name: string): string => `ipc://${join(this.#directory, `${name}.sock`)}`;
    const { address } = this.#options;
    const process = new WorkerProcess({
      entry: WORKER_ENTRY,
      rank: order.rank,
      id,
      keys: makeKeys(),
      control: file('control'),
      exchange: order.shares_memory ? file(id) : portOn(address),
      sharesMemory: order.shares_memory,
      isKept: true,
    });
    const kept: Kept = { id, order, process, directories, leaderId: order.id, isLoaded: false, session: undefined };
    this.#workers.set(id, kept);
    process.ended.then(({ code, signal }) => {
      this.#workers.delete(id);
      rmSync(join(this.#directory, `${id}.sock`), { force: true });
      if (code !== 0) this.#options.onUnasked(kept.order);
      if (kept.leaderId !== undefined)
        this.#options.say({ kind: 'exited', id: kept.leaderId, code, signal, stderr: [...process.stderr] });
    });
    this.#tellStarted(kept, false);
  }

  send(leaderId: string, frame: Uint8Array): void {
    const kept = this.#ofLeader(leaderId);
    if (kept !== undefined) void this.#server.send(kept.id, frame).catch(() => undefined);
  }

  kill(leaderId: string, signal: NodeJS.Signals): void {
    this.#ofLeader(leaderId)?.process.kill(signal);
  }

  /** The leader is gone: all are nobody's, and those that have loaded nothing are worth nothing to the next one. */
  release(): void {
    for (const kept of this.#workers.values()) {
      kept.leaderId = undefined;
      if (!kept.isLoaded) kept.process.kill('SIGKILL');
    }
  }

  async endAll(): Promise<void> {
    await Promise.all([...this.#workers.values()].map((kept) => this.#end(kept)));
  }

  async close(): Promise<void> {
    await this.endAll();
    this.#server.close();
    rmSync(this.#directory, { recursive: true, force: true });
  }

  #ofLeader(leaderId: string): Kept | undefined {
    return [...this.#workers.values()].find((kept) => kept.leaderId === leaderId);
  }

  async #end(kept: Kept): Promise<void> {
    kept.leaderId = undefined;
    await endNow(kept.process);
  }

  #tellStarted({ leaderId, process, directories }: Kept, kept: boolean): void {
    if (leaderId !== undefined)
      this.#options.say({ kind: 'started', id: leaderId, pid: process.pid, directories: { ...directories }, kept });
  }

  async #listen(): Promise<void> {
    for await (const { from, frame } of this.#server.messages()) {
      const kept = this.#workers.get(from);
      if (kept !== undefined) this.#hear(kept, frame);
    }
  }

  #hear(kept: Kept, frame: Buffer): void {
    if (!kept.isLoaded || kept.session !== undefined) this.#note(kept, frame);
    if (kept.leaderId !== undefined && kept.session === undefined)
      this.#options.say({ kind: 'from_worker', id: kept.leaderId, frame });
  }

  #note(kept: Kept, frame: Buffer): void {
    try {
      const message = decodeFromWorker(frame, `rank ${kept.order.rank}`);
      if (message.kind === 'loaded') kept.isLoaded = true;
      if (message.kind === 'hello' && message.session === kept.session) kept.session = undefined;
    } catch {
      // The leader reads it too, and knows what to do with a worker that says such things.
    }
  }
}
