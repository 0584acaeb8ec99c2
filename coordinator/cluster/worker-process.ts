/** A worker as a child process: start it and hear of its end. */
import { type ChildProcess, type SpawnOptions, spawn } from 'node:child_process';
import { closeSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import type { KeyPair } from '../../shard-worker/keys.js';
import { openPrivateLog } from '../../shard-worker/private-files.js';
import { isStopped } from '../../shard-worker/processes.js';
import { WORKER_ID_VARIABLE, WORKER_TOKEN_VARIABLE } from '../../shard-worker/protocol.js';
import { workerEnvironment } from '../../shard-worker/transport.js';
import type { Exit } from './errors.js';
import { lastLines, lastLogLines, STDERR_CHARACTERS, type WorkerHandle } from './worker-handle.js';

/**
 * Makes glibc keep what operators free instead of giving it back to the kernel, which would have to zero the same pages again
 * for the next operator, and ask for huge pages: a step of a full-size UNet took a quarter less time. Other C libraries ignore
 * these variables.
 */
export const KEEP_FREED_MEMORY = {
  GLIBC_TUNABLES: 'glibc.malloc.hugetlb=1',
  MALLOC_ARENA_MAX: '1',
  MALLOC_MMAP_THRESHOLD_: '1073741824',
  MALLOC_TRIM_THRESHOLD_: '100000000000',
  MALLOC_TOP_PAD_: '67108864',
};

/** How long to wait for the rest of a dead process's output, in ms. */
const OUTPUT_MS = 300;

/**
 * Every message that arrives is memory that V8 counts as its own: each 64 MB of them it begins to mark a heap of 11 MB bit by bit,
 * on further threads and on that of every further message. One collection at once takes less than all that, of cores that
 * other ranks need: a step of the full-size UNet on two took 7 % less time.
 */
const NODE_FLAGS = ['--no-incremental-marking', '--single-threaded-gc'];

export const WORKER_ENTRY = fileURLToPath(new URL('../../shard-worker/main.js', import.meta.url));

/** What a worker needs that may outlive its coordinator. */
export interface DetachedProcess {
  /** Private directory of the group. */
  readonly directory: string;
  /** Of that directory; whoever shows it is obeyed. */
  readonly token: string;
  readonly keepWarmMs: number;
  /** File that takes its output: nobody may be there to read a pipe. */
  readonly log: string;
}

export interface WorkerProcessOptions {
  /** Program of the worker; `WORKER_ENTRY` unless another one that speaks the protocol. */
  readonly entry: string;
  readonly rank: number;
  /** Routing id under which it speaks. */
  readonly id: string;
  /** Its own, for sockets that are ports. */
  readonly keys: KeyPair;
  readonly control: string;
  readonly exchange: string;
  /** Whether it exchanges with its peers through shared memory. */
  readonly sharesMemory: boolean;
  /** Whether whoever starts it may give it to another coordinator. */
  readonly isKept?: boolean;
  /** Absent for a worker that ends with its coordinator. */
  readonly detached?: DetachedProcess;
}

const argumentsOf = ({
  entry,
  rank,
  control,
  exchange,
  sharesMemory,
  isKept = false,
  detached,
}: WorkerProcessOptions): readonly string[] => [
  ...NODE_FLAGS,
  entry,
  ...['--rank', String(rank), '--control', control, '--exchange', exchange],
  ...(sharesMemory ? ['--shared-memory'] : []),
  ...(isKept ? ['--kept'] : []),
  ...(detached === undefined
    ? []
    : ['--detached', detached.directory, '--keep-warm-ms', String(Math.ceil(detached.keepWarmMs))]),
];

const spawnWorker = (options: WorkerProcessOptions): ChildProcess => {
  const log = options.detached === undefined ? undefined : openPrivateLog(options.detached.log);
  const settings: SpawnOptions = {
    // An ordinary worker ends when its standard input closes; nothing is ever written there.
    stdio: log === undefined ? ['pipe', 'ignore', 'pipe'] : ['ignore', log, log],
    env: {
      ...KEEP_FREED_MEMORY,
      ...process.env,
      [WORKER_ID_VARIABLE]: options.id,
      ...(options.detached && { [WORKER_TOKEN_VARIABLE]: options.detached.token }),
      ...workerEnvironment(options.keys),
    },
    // A session of its own: a terminal's Ctrl-C reaches the coordinator only, which then ends its workers in order.
    detached: process.platform !== 'win32',
  };
  try {
    return spawn(process.execPath, argumentsOf(options), settings);
  } finally {
    if (log !== undefined) closeSync(log);
  }
};

/** A worker process from its start to its end. */
export class WorkerProcess implements WorkerHandle {
  readonly #child: ChildProcess;
  readonly #log: string | undefined;
  readonly ended: Promise<Exit>;
  #stderr = '';

  constructor(options: WorkerProcessOptions) {
    this.#log = options.detached?.log;
    this.#child = spawnWorker(options);
    this.#child.stderr?.setEncoding('utf8').on('data', (text: string) => {
      this.#stderr = (this.#stderr + text).slice(-STDERR_CHARACTERS);
    });
    this.#child.stdin?.on('error', () => undefined);
    this.ended = this.#waitForEnd();
  }

  get pid(): number {
    return this.#child.pid ?? 0;
  }

  get isStopped(): boolean {
    return isStopped(this.pid);
  }

  get stderr(): readonly string[] {
    return this.#log === undefined ? lastLines(this.#stderr) : lastLogLines(this.#log);
  }

  kill(signal: NodeJS.Signals): void {
    this.#child.kill(signal);
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
