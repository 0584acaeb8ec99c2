/** A worker process in the coordinator's hands, whoever started it, and the ways to end it. */
import { setTimeout as delay } from 'node:timers/promises';
import { readPrivate } from '../../shard-worker/private-files.js';
import { isRunning, isStopped, type ProcessIdentity, signalProcess } from '../../shard-worker/processes.js';
import type { Exit } from './errors.js';

const STDERR_LINES = 10;
export const STDERR_CHARACTERS = 4000;
/** How long to wait for each way of ending a process; ms. */
const SHUTDOWN_MS = 3000;
const TERMINATE_MS = 1000;
const KILL_MS = 10_000;
/** How often to look whether a process is gone that is no child of this one, in ms; but on Linux, a look starts a program. */
const LOOK_MS = process.platform === 'linux' ? 20 : 50;

export interface WorkerHandle {
  /** 0 if the process could not be started. */
  readonly pid: number;
  /** The last lines that the worker wrote to its standard error. */
  readonly stderr: readonly string[];
  /** Resolves when the process is gone. */
  readonly ended: Promise<Exit>;
  /** Whether the process is stopped (SIGSTOP), where that can be seen. */
  readonly isStopped: boolean;
  kill(signal: NodeJS.Signals): void;
  /** The way to a worker of another host; others have the control socket. */
  readonly link?: RemoteLink;
}

/** What a worker on another host is spoken to through. */
export interface RemoteLink {
  send(frame: Uint8Array): Promise<void>;
  /** Calls `listener` with every frame from the worker. */
  listen(listener: (frame: Buffer) => void): void;
  /** Where a network's shards lie on that host. @param own where they lie on this one */
  shardDirectory(network: string, own: string): string;
}

export const lastLines = (text: string): readonly string[] =>
  text.slice(-STDERR_CHARACTERS).split('\n').filter(Boolean).slice(-STDERR_LINES);

/** The end of a log file; empty where there is none. */
export const lastLogLines = (path: string): readonly string[] => {
  try {
    return lastLines(readPrivate(path));
  } catch {
    return [];
  }
};

const endsWithin = async (worker: WorkerHandle, ms: number): Promise<boolean> => {
  const timer = new AbortController();
  const late = delay(ms, false, { signal: timer.signal }).catch(() => false);
  const ended = await Promise.race([worker.ended.then(() => true), late]);
  timer.abort();
  return ended;
};

/** Kills the process, also when it is stopped. */
export const endNow = async (worker: WorkerHandle): Promise<void> => {
  worker.kill('SIGKILL');
  await endsWithin(worker, KILL_MS);
};

/** Waits for the process to end as it was told to; then terminates it; then kills it. */
export const endGently = async (worker: WorkerHandle): Promise<void> => {
  if (await endsWithin(worker, SHUTDOWN_MS)) return;
  worker.kill('SIGTERM');
  if (await endsWithin(worker, TERMINATE_MS)) return;
  await endNow(worker);
};

/** A worker that an earlier coordinator started. */
export const adoptWorker = (identity: ProcessIdentity, log: string): WorkerHandle => {
  const ended = new Promise<Exit>((resolve) => {
    const timer = setInterval(() => {
      if (isRunning(identity)) return;
      clearInterval(timer);
      resolve({ code: null, signal: null, unknown: true });
    }, LOOK_MS);
    timer.unref();
  });
  return {
    pid: identity.pid,
    get stderr() {
      return lastLogLines(log);
    },
    ended,
    get isStopped() {
      return isStopped(identity.pid);
    },
    kill: (signal) => signalProcess(identity, signal),
  };
};
