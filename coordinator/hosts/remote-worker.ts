/** A worker on another host, in the leader's hands: its host tells of its end, and carries what is said to it. */
import type { Exit, RemoteLink, RemoteOrder, WorkerHandle } from '../cluster/index.js';

/** How a worker is reached while its host is there. */
export interface Carriage {
  send(id: string, frame: Uint8Array): Promise<void>;
  kill(id: string, signal: 'SIGTERM' | 'SIGKILL'): void;
}

export class RemoteWorker implements WorkerHandle {
  readonly order: RemoteOrder;
  readonly ended: Promise<Exit>;
  readonly link: RemoteLink;
  pid = 0;
  isStopped = false;
  stderr: readonly string[] = [];
  #resolve: (exit: Exit) => void = () => undefined;
  #hasEnded = false;
  #carriage: Carriage | undefined;
  #directories: Readonly<Record<string, string>> = {};
  #listener: (frame: Buffer) => void = () => undefined;

  constructor(order: RemoteOrder) {
    this.order = order;
    this.ended = new Promise((resolve) => {
      this.#resolve = resolve;
    });
    this.link = {
      // What is said to a worker whose host is gone is lost with it.
      send: async (frame) => this.#carriage?.send(this.order.id, frame),
      listen: (listener) => {
        this.#listener = listener;
      },
      shardDirectory: (network, own) => this.#directories[network] ?? own,
    };
  }

  get hasEnded(): boolean {
    return this.#hasEnded;
  }

  /** Its host has been told to start it. */
  entrusted(carriage: Carriage): void {
    this.#carriage = carriage;
  }

  started(pid: number, directories: Readonly<Record<string, string>>): void {
    this.pid = pid;
    this.#directories = directories;
  }

  heard(frame: Buffer): void {
    this.#listener(frame);
  }

  exited(exit: Exit, stderr: readonly string[] = []): void {
    if (this.#hasEnded) return;
    this.#hasEnded = true;
    this.#carriage = undefined;
    this.stderr = stderr;
    this.#resolve(exit);
  }

  kill(signal: NodeJS.Signals): void {
    if (this.#carriage === undefined) this.exited({ code: null, signal });
    else this.#carriage.kill(this.order.id, signal === 'SIGKILL' ? 'SIGKILL' : 'SIGTERM');
  }
}
