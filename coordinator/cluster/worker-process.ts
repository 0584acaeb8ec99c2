/** One worker as an operating-system process: start it, hear of its end, end it. */
import { type ChildProcess, spawn } from 'node:child_process';
import { setTimeout as delay } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import { WORKER_ID_VARIABLE } from '../../shard-worker/protocol.js';
import type { Exit } from './errors.js';

/**
 * Makes glibc keep what operators free instead of giving it back to the kernel, which would have to zero the same pages again
 * for the next operator: a step of a full-size UNet took a quarter less time. Other C libraries ignore these variables.
 */
const KEEP_FREED_MEMORY = {
  MALLOC_ARENA_MAX: '1',
  MALLOC_MMAP_MAX_: '0',
  MALLOC_TRIM_THRESHOLD_: '100000000000',
  MALLOC_TOP_PAD_: '67108864',
};

const STDERR_LINES = 10;
const STDERR_CHARACTERS = 4000;
/** How long to wait for the rest of a dead process's output, and for each way of ending it; ms. */
const OUTPUT_MS = 300;
const SHUTDOWN_MS = 3000;
const TERMINATE_MS = 1000;
const KILL_MS = 3000;

export const WORKER_ENTRY = fileURLToPath(new URL('../../shard-worker/main.js', import.meta.url));

export interface WorkerProcessOptions {
  /** Program of the worker; `WORKER_ENTRY` unless another one that speaks the protocol. */
  readonly entry: string;
  readonly rank: number;
  /** Routing id under which it speaks. */
  readonly id: string;
  readonly control: string;
  readonly exchange: string;
}

/** A worker process from its start to its end. */
export class WorkerProcess {
  readonly #child: ChildProcess;
  readonly #ended: Promise<Exit>;
  #stderr = '';

  constructor(options: WorkerProcessOptions) {
    const { entry, rank, id, control, exchange } = options;
    this.#child = spawn(
      process.execPath,
      [entry, '--rank', String(rank), '--control', control, '--exchange', exchange],
      {
        // The worker ends when its standard input closes; nothing is ever written there.
        stdio: ['pipe', 'ignore', 'pipe'],
        env: { ...KEEP_FREED_MEMORY, ...process.env, [WORKER_ID_VARIABLE]: id },
        // A session of its own: a terminal's Ctrl-C reaches the coordinator only, which then ends its workers in order.
        detached: process.platform !== 'win32',
      },
    );
    this.#child.stderr?.setEncoding('utf8').on('data', (text: string) => {
      this.#stderr = (this.#stderr + text).slice(-STDERR_CHARACTERS);
    });
    this.#child.stdin?.on('error', () => undefined);
    this.#ended = this.#waitForEnd();
  }

  /** 0 if the process could not be started. */
  get pid(): number {
    return this.#child.pid ?? 0;
  }

  /** The last lines that the worker wrote to its standard error. */
  get stderr(): readonly string[] {
    return this.#stderr.split('\n').filter(Boolean).slice(-STDERR_LINES);
  }

  /** Resolves when the process is gone. */
  get ended(): Promise<Exit> {
    return this.#ended;
  }

  /** Waits for the process to end as it was told to; then terminates it; then kills it. */
  async endGently(): Promise<void> {
    if (await this.#endsWithin(SHUTDOWN_MS)) return;
    this.#child.kill('SIGTERM');
    if (await this.#endsWithin(TERMINATE_MS)) return;
    await this.endNow();
  }

  /** Kills the process, also when it is stopped. */
  async endNow(): Promise<void> {
    this.#child.kill('SIGKILL');
    await this.#endsWithin(KILL_MS);
  }

  async #endsWithin(ms: number): Promise<boolean> {
    const timer = new AbortController();
    const late = delay(ms, false, { signal: timer.signal }).catch(() => false);
    const ended = await Promise.race([this.#ended.then(() => true), late]);
    timer.abort();
    return ended;
  }

  #waitForEnd(): Promise<Exit> {
    return new Promise((resolve) => {
      this.#child.once('error', (error) => {
        this.#stderr += error.message;
        if (this.#child.pid === undefined) resolve({ code: null, signal: null });
      });
      this.#child.once('exit', (code, signal) => {
        const timer = setTimeout(() => resolve({ code, signal }), OUTPUT_MS);
        this.#child.once('close', () => {
          clearTimeout(timer);
          resolve({ code, signal });
        });
      });
    });
  }
}
