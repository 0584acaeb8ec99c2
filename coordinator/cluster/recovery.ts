/** What is done about the loss of a worker: it is started again, or all are where their files were damaged or their sockets removed. */
import { setTimeout as delay } from 'node:timers/promises';
import type { TandemError } from '../../common/errors.js';
import type { ControlServer } from '../../shard-worker/transport.js';
import type { Endpoints } from './endpoints.js';
import { isDamage, restartsExhausted, workerNotReplaced } from './errors.js';
import type { Group, Loss } from './group.js';
import { backoff, Losses, type RestartPolicy } from './restart.js';

export interface RecoveryOptions {
  readonly endpoints: Endpoints;
  readonly server: ControlServer;
  readonly onNotice: (message: string) => void;
  /** Absent: the loss of a worker ends the cluster. */
  readonly restart?: RestartPolicy;
  /** Makes damaged shards anew: they are derived data. Absent: damage is a loss like any other. */
  readonly repair?: (signal: AbortSignal) => Promise<void>;
}

/** Whom recovery asks and tells. */
export interface Recovered {
  readonly group: Group;
  /** Whether the workers were all there once; before that, a loss ends the launch. */
  readonly wasReady: () => boolean;
  readonly onRecovering: (error: TandemError) => void;
  /** Nothing more can be done. */
  readonly onFailed: (error: TandemError) => void;
}

export class Recovery {
  readonly #options: RecoveryOptions;
  readonly #of: Recovered;
  readonly #losses = new Losses();
  readonly #stopping = new AbortController();
  /** Whether all workers are to be replaced, and what must be done before; the loss of one is no news then. */
  #renewal: (() => Promise<void>) | undefined;
  /** Whether shards were made anew since the last finished step: doing it again would not help. */
  #repaired = false;
  /** Rises when all workers are replaced: what was planned for one of them before is void. */
  #turn = 0;

  constructor(options: RecoveryOptions, of: Recovered) {
    this.#options = options;
    this.#of = of;
  }

  ready(): void {
    this.#losses.ready(performance.now());
  }

  stepped(): void {
    this.#repaired = false;
    this.#losses.stepped();
  }

  stop(): void {
    this.#stopping.abort();
  }

  /** A worker that cannot be taken over is one that must be started; any other loss ends the launch, or is recovered from. */
  onLost({ rank, error, refused }: Loss): void {
    if (this.#stopping.signal.aborted || this.#renewal !== undefined) return;
    if (refused) {
      this.#options.onNotice(`${error.message} Starting a new one.`);
      this.#replaceLater(rank, 0, false);
      return;
    }
    if (isDamage(error) && this.#options.repair !== undefined && !this.#repaired) this.#repair(rank, error);
    else this.#lose(rank, error);
  }

  #lose(rank: number, error: TandemError): void {
    const { restart } = this.#options;
    if (restart === undefined || !this.#of.wasReady()) this.#of.onFailed(error);
    else this.#recover(rank, error, restart);
  }

  /** Workers that are well are replaced too: what they have loaded may come from files of before. */
  #repair(rank: number, error: TandemError): void {
    this.#repaired = true;
    this.#options.onNotice(`${error.message} Shards are derived data: making them anew.`);
    this.#renewal = async () => this.#options.repair?.(this.#stopping.signal);
    this.#of.group.interrupt();
    if (this.#of.wasReady()) this.#of.onRecovering(error);
    this.#replaceLater(rank, 0, false);
  }

  #recover(rank: number, error: TandemError, restart: RestartPolicy): void {
    const lost = this.#losses.add(rank, performance.now());
    if (lost > restart.maxAttempts) {
      this.#of.onFailed(restartsExhausted(rank, lost, restart.maxAttempts, error));
      return;
    }
    this.#options.onNotice(`${error.message} Starting it again (${lost} of ${restart.maxAttempts}).`);
    this.#of.group.interrupt();
    this.#replaceLater(rank, backoff(restart, lost), true);
    this.#of.onRecovering(error);
  }

  #replaceLater(rank: number, waitMs: number, counts: boolean): void {
    this.#replace(rank, waitMs, counts).catch((cause: unknown) => {
      if (!this.#stopping.signal.aborted) this.#lose(rank, workerNotReplaced(rank, cause));
    });
  }

  async #replace(rank: number, waitMs: number, counts: boolean): Promise<void> {
    const turn = this.#turn;
    await Promise.all([this.#of.group.bury(rank), delay(waitMs, undefined, { signal: this.#stopping.signal })]);
    if (turn !== this.#turn) return;
    if (await this.#restorePlace()) this.#renewal ??= async () => undefined;
    if (this.#renewal === undefined) this.#of.group.replace(rank, counts);
    else await this.#replaceAll(this.#renewal, counts);
  }

  async #replaceAll(prepare: () => Promise<void>, counts: boolean): Promise<void> {
    this.#turn += 1;
    this.#of.group.interrupt();
    await Promise.all([this.#of.group.buryAll(), prepare()]);
    this.#renewal = undefined;
    this.#of.group.replaceAll(counts);
  }

  /** @returns whether sockets were gone with their directory: then no worker can be found by the others */
  async #restorePlace(): Promise<boolean> {
    if (!(await this.#options.endpoints.restore(this.#of.group.listening))) return false;
    this.#options.onNotice("The directory of the workers' sockets was removed. Making it again, and all workers.");
    this.#options.server.relisten();
    return true;
  }
}
