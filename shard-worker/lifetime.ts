/**
 * How a worker's life depends on its coordinator.
 *
 * An ordinary worker never outlives it. The coordinator holds the other end of the worker's standard input and never
 * writes to it: when the coordinator ends, however it ends, that pipe closes.
 *
 * A detached worker waits for the next coordinator, but not for ever.
 */
import { existsSync, rmdirSync, rmSync } from 'node:fs';
import { dirname } from 'node:path';
import { socketFiles, socketPath } from './endpoints.js';
import { hasToken, isCommanded, removeRuntimeDirectory, runningWorkers } from './runtime-files.js';

const PARENT_CHECK_MS = 1000;
/** A worker without weights is worth nothing to the next coordinator. */
const KEEP_EMPTY_MS = 15_000;
/**
 * Nor is one whose socket was removed, or its directory, be it that another coordinator has made that again: nobody can find it. Long
 * enough for a coordinator that is only busy.
 */
const KEEP_LOST_MS = 5_000;
const SILENCE_CHECK_MS = 200;

/** Ends this process at once, even while the compute thread is inside a segment, which `process.exit` would wait for. */
export const endNow = (): never => {
  process.kill(process.pid, 'SIGKILL');
  process.abort();
};

const attempt = (action: () => void): void => {
  try {
    action();
  } catch {
    // Another rank may have removed it already, or still uses the directory.
  }
};

/** Removes what a dead coordinator can no longer remove: the sockets and, for the last rank, their directory. */
const removeSockets = (endpoints: readonly string[]): void => {
  const paths = endpoints.flatMap(socketFiles);
  for (const path of paths) attempt(() => rmSync(path, { force: true }));
  for (const path of paths) attempt(() => rmdirSync(dirname(path)));
};

/** Ends the process, and removes its sockets, when the coordinator is gone. */
export const endWithCoordinator = (endpoints: readonly string[]): void => {
  const parent = process.ppid;
  const end = (): never => {
    removeSockets(endpoints);
    return endNow();
  };
  process.stdin.on('end', end).on('close', end).on('error', end).resume();
  setInterval(() => process.ppid !== parent && end(), PARENT_CHECK_MS).unref();
};

/** The last of several workers to leave takes the directory with it, where it still is theirs. */
const leaveDirectory = ({ directory, token, exchange }: Whereabouts): void => {
  removeSockets([exchange]);
  if (!hasToken(directory, token)) return;
  // A worker that leaves at the same time has removed its socket before it looks.
  const others = runningWorkers(directory).filter((worker) => worker.process.pid !== process.pid);
  if (!others.some(({ socket }) => existsSync(socket)) && !isCommanded(directory)) removeRuntimeDirectory(directory);
};

/** Where a detached worker is found. */
export interface Whereabouts {
  /** The workers' private directory. */
  readonly directory: string;
  readonly token: string;
  /** This worker's exchange endpoint, which it has begun to listen on. */
  readonly exchange: string;
}

/** Ends a detached worker when no coordinator has spoken to it for long enough. */
export class Patience {
  readonly #place: Whereabouts;
  #keepWarmMs: number;
  #loaded = false;
  #silentMs = 0;
  #lastLook = performance.now();

  /** @param keepWarmMs how long a loaded worker waits */
  constructor(place: Whereabouts, keepWarmMs: number) {
    this.#place = place;
    this.#keepWarmMs = keepWarmMs;
    setInterval(() => this.#look(), SILENCE_CHECK_MS).unref();
  }

  /** The coordinator has spoken. */
  heard(): void {
    this.#silentMs = 0;
  }

  keepWarm(ms: number): void {
    this.#keepWarmMs = ms;
  }

  loaded(): void {
    this.#loaded = true;
  }

  #patienceMs(): number {
    if (!this.#canBeFound()) return KEEP_LOST_MS;
    return this.#loaded ? this.#keepWarmMs : KEEP_EMPTY_MS;
  }

  #canBeFound(): boolean {
    const { directory, token, exchange } = this.#place;
    return hasToken(directory, token) && existsSync(socketPath(exchange) ?? directory);
  }

  #look(): void {
    const now = performance.now();
    // A process that was itself stopped for an hour has not listened for an hour.
    this.#silentMs += Math.min(now - this.#lastLook, 2 * SILENCE_CHECK_MS);
    this.#lastLook = now;
    if (this.#silentMs <= Math.min(this.#keepWarmMs, KEEP_LOST_MS) || this.#silentMs <= this.#patienceMs()) return;
    leaveDirectory(this.#place);
    endNow();
  }
}
