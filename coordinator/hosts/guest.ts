/** A host that has joined, as the leader has it: the link to it, the workers that it runs, and the files that it asks for. */
import { constants } from 'node:os';
import type { Exit } from '../cluster/index.js';
import { encode, type FromHost, type Join, type StartOrder, type ToHost } from './messages.js';
import { readPiece } from './offered-files.js';
import type { RemoteWorker } from './remote-worker.js';

type Rest = Exclude<FromHost, Join>;

export interface GuestOptions {
  /** Routing id of its link. */
  readonly link: string;
  readonly join: Join;
  /** IP address, and key, by which its link is measured. */
  readonly send: (frame: Uint8Array) => Promise<void>;
  readonly onMeasured: (to: string, wireBytesPerMs: number, latencyMs: number) => void;
}

/** Pieces of files that may be asked for and not yet be sent: a host asks for few ahead, and each is held until it is sent. */
const MAX_SERVING = 64;

const signalOf = (name: string | null): NodeJS.Signals | null =>
  name !== null && name in constants.signals ? (name as NodeJS.Signals) : null;

export class Guest {
  readonly link: string;
  readonly join: Join;
  heardAt = performance.now();
  /** Bytes of shards that it was sent. */
  sentBytes = 0;
  readonly #options: GuestOptions;
  readonly #workers = new Map<string, RemoteWorker>();
  #serving = 0;

  constructor(options: GuestOptions) {
    this.#options = options;
    this.link = options.link;
    this.join = options.join;
  }

  say(message: ToHost): Promise<void> {
    return this.#options.send(encode(message)).catch(() => undefined);
  }

  start(worker: RemoteWorker): void {
    const { id, rank, identity, networks, sharesMemory, keepWarmMs } = worker.order;
    this.#workers.set(id, worker);
    worker.entrusted({
      send: (to, frame) => this.#options.send(encode({ kind: 'to_worker', id: to, frame: Buffer.from(frame) })),
      kill: (to, signal) => void this.say({ kind: 'kill', id: to, signal }),
    });
    const order: StartOrder = {
      kind: 'start',
      id,
      rank,
      identity,
      networks: networks.map(({ name, directory, manifestSha256, place }) => ({
        name,
        directory,
        manifest_sha256: manifestSha256,
        place,
      })),
      shares_memory: sharesMemory,
      keep_warm_ms: Math.ceil(keepWarmMs),
    };
    void this.say(order);
  }

  receive(message: Rest): void {
    this.heardAt = performance.now();
    switch (message.kind) {
      case 'pong':
        for (const worker of this.#workers.values()) worker.isStopped = message.stopped.includes(worker.order.id);
        return;
      case 'want':
        if (this.#serving < MAX_SERVING) void this.#serve(message);
        return;
      case 'started':
        this.#workers.get(message.id)?.started(message.pid, message.directories);
        return;
      case 'not_started':
        this.#end(message.id, { code: null, signal: null }, [message.problem]);
        return;
      case 'from_worker':
        this.#workers.get(message.id)?.heard(message.frame);
        return;
      case 'exited':
        this.#end(message.id, { code: message.code, signal: signalOf(message.signal) }, message.stderr);
        return;
      case 'measured':
        this.#options.onMeasured(message.to, message.bytes_per_ms, message.latency_ms);
        return;
      case 'leave':
        return;
      default:
        message satisfies never;
    }
  }

  /** All its workers are lost with it. */
  lost(name: string, why: string): void {
    for (const worker of this.#workers.values()) worker.exited({ code: null, signal: null, host: name }, [why]);
    this.#workers.clear();
  }

  #end(id: string, exit: Exit, stderr: readonly string[]): void {
    this.#workers.get(id)?.exited(exit, stderr);
    this.#workers.delete(id);
  }

  /** Only files of the ranks that it was given. */
  async #serve({ id, network, path, offset }: Extract<Rest, { kind: 'want' }>): Promise<void> {
    this.#serving += 1;
    const offered = this.#workers.get(id)?.order.networks.find(({ name }) => name === network);
    const data = offered === undefined ? undefined : await readPiece(offered, path, offset).catch(() => undefined);
    this.sentBytes += data?.byteLength ?? 0;
    // An empty piece tells that there is none.
    await this.say({ kind: 'piece', id, network, path, offset, data: data ?? Buffer.alloc(0) });
    this.#serving -= 1;
  }
}
