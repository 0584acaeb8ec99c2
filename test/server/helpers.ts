/** A real server with real workers, inside this process or in one of its own, and a client for it. */
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { writeFile } from 'node:fs/promises';
import { createServer } from 'node:net';
import { join, resolve } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { pino } from 'pino';
import { TandemError } from '#tandem/common/errors.js';
import { type ClusterConfig, readClusterConfig } from '#tandem/coordinator/config/index.js';
import { cancelled } from '#tandem/coordinator/hooks.js';
import { type Ready, serve } from '#tandem/coordinator/server/index.js';
import { withDirectory } from '../support/directory.js';

export { isAlive } from '../support/processes.js';

export const CONFIG = 'configs/dual-cpu.yaml';

export interface LogLine {
  readonly msg: string;
  readonly [key: string]: unknown;
}

export interface Served {
  readonly url: string;
  readonly ready: Promise<Ready>;
  readonly log: readonly LogLine[];
  /** Settles when the server has ended, with the error that ended it. */
  readonly ended: Promise<TandemError>;
  stop(reason?: TandemError): Promise<TandemError>;
}

/** A port that was free a moment ago. */
export const freePort = async (): Promise<number> => {
  const server = createServer().listen(0, '127.0.0.1');
  await once(server, 'listening');
  const address = server.address();
  server.close();
  await once(server, 'close');
  if (address === null || typeof address === 'string') throw new Error('Expected a port.');
  return address.port;
};

/** The shipped config, on a port of its own; workers end with the test. */
export const testConfig = async (
  server: Partial<ClusterConfig['server']> = {},
  rest: Partial<ClusterConfig> = {},
): Promise<ClusterConfig> => {
  const config = await readClusterConfig(CONFIG);
  return {
    ...config,
    workers: { ...config.workers, keepWarmMs: 0 },
    ...rest,
    server: { ...config.server, port: await freePort(), ...server },
  };
};

const asTandemError = (error: unknown): TandemError =>
  error instanceof TandemError ? error : new TandemError('INTERNAL', String(error), { cause: error });

/** Serves a config in this process; the URL is known at once, the rest when `ready` says so. */
export const start = (config: ClusterConfig): Served => {
  const controller = new AbortController();
  const log: LogLine[] = [];
  const stream = { write: (text: string) => void log.push(JSON.parse(text) as LogLine) };
  let ended: Promise<TandemError> = Promise.resolve(cancelled());
  const ready = new Promise<Ready>((onReady, onError) => {
    ended = serve({ config, log: pino({ level: 'debug' }, stream), signal: controller.signal, onReady }).catch(
      (error: unknown) => {
        onError(error);
        return asTandemError(error);
      },
    );
  });
  ready.catch(() => undefined);
  return {
    url: `http://127.0.0.1:${config.server.port}`,
    ready,
    log,
    ended,
    stop: (reason = cancelled()) => {
      controller.abort(reason);
      return ended;
    },
  };
};

export const startReady = async (
  server: Partial<ClusterConfig['server']> = {},
  rest: Partial<ClusterConfig> = {},
): Promise<Served> => {
  const served = start(await testConfig(server, rest));
  await served.ready;
  return served;
};

export interface ApiError {
  readonly error: {
    readonly message: string;
    readonly type: string;
    readonly param: string | null;
    readonly code: string;
  };
}

export interface ImageAnswer {
  readonly created: number;
  readonly data: readonly {
    readonly b64_json?: string;
    readonly url?: string;
    readonly seed: number;
    readonly warnings?: readonly string[];
  }[];
  readonly size: string;
}

export interface Health {
  readonly state: string;
  readonly ready: boolean;
  readonly requests_running: number;
  readonly requests_waiting: number;
  readonly ranks: readonly {
    readonly rank: number;
    readonly state: string;
    readonly pid: number;
    readonly memory_bytes: number;
    readonly last_step_ms: number | null;
    readonly restarts: number;
  }[];
}

interface PostOptions {
  readonly signal?: AbortSignal;
  readonly headers?: Readonly<Record<string, string>>;
}

/** Asks for pictures. */
export const post = (url: string, body: unknown, options: PostOptions = {}): Promise<Response> =>
  fetch(`${url}/v1/images/generations`, {
    method: 'POST',
    headers: { 'content-type': 'application/json', ...options.headers },
    body: JSON.stringify(body),
    ...(options.signal ? { signal: options.signal } : {}),
  });

export const json = async <T>(response: Response): Promise<T> => (await response.json()) as T;

export const health = async (url: string): Promise<Health> => json<Health>(await fetch(`${url}/health`));

export type StreamEvent = { readonly type: string; readonly index?: number } & Readonly<Record<string, unknown>>;

/** The events of a streamed answer, as they come. */
export async function* events(response: Response): AsyncGenerator<StreamEvent> {
  if (response.body === null) throw new Error('Expected a body.');
  let rest = '';
  for await (const chunk of response.body.pipeThrough(new TextDecoderStream())) {
    const blocks = (rest + chunk).split('\n\n');
    rest = blocks.pop() ?? '';
    for (const block of blocks) {
      const data = block.split('\n').find((line) => line.startsWith('data: '));
      if (data !== undefined && data !== 'data: [DONE]') yield JSON.parse(data.slice(6)) as StreamEvent;
    }
  }
}

/** Waits until `condition` holds; fails after `timeoutMs`. */
export const until = async (condition: () => boolean | Promise<boolean>, timeoutMs = 20_000): Promise<void> => {
  const end = performance.now() + timeoutMs;
  while (!(await condition())) {
    if (performance.now() > end) throw new Error(`Condition did not hold within ${timeoutMs} ms.`);
    await delay(20);
  }
};

export const metric = async (url: string, name: string): Promise<number> => {
  const text = await (await fetch(`${url}/metrics`)).text();
  const line = text.split('\n').find((candidate) => candidate.startsWith(`${name} `));
  return Number(line?.slice(name.length + 1));
};

export interface Spawned {
  readonly process: ChildProcess;
  readonly url: string;
  readonly pids: readonly number[];
  /** Its config. */
  readonly file: string;
  /** All of standard error so far. */
  stderr(): string;
  readonly exited: Promise<{ readonly code: number | null; readonly signal: NodeJS.Signals | null }>;
}

/** Runs `work` with a config file made of the shipped one, a `server:` block and defaults. */
export const withConfigFile = async <T>(
  server: string,
  work: (file: string) => Promise<T>,
  defaults = '{ num_inference_steps: 8 }',
): Promise<T> =>
  withDirectory(async (directory) => {
    const { model, shards } = await readClusterConfig(CONFIG);
    const file = join(directory, 'cluster.yaml');
    const devices = 'devices: [{ provider: cpu, threads: 1 }, { provider: cpu, threads: 1 }]';
    await writeFile(
      file,
      [`model: ${model}`, `shards: ${shards}`, devices, `defaults: ${defaults}`, `server: ${server}`, ''].join('\n'),
    );
    return work(file);
  });

/** `tandem launch` in a process of its own, as far as it was told to get. */
export const spawnLaunch = (file: string, environment: NodeJS.ProcessEnv = {}): ChildProcess =>
  spawn(process.execPath, [resolve('bin/tandem.js'), 'launch', file, '--json'], {
    stdio: ['ignore', 'pipe', 'pipe'],
    env: { ...process.env, ...environment },
  });

/** Collects what a child says, and how it ends. */
export const watch = (child: ChildProcess) => {
  const texts = { stdout: '', stderr: '' };
  child.stdout?.setEncoding('utf8').on('data', (text: string) => {
    texts.stdout += text;
  });
  child.stderr?.setEncoding('utf8').on('data', (text: string) => {
    texts.stderr += text;
  });
  const exited = once(child, 'close').then(([code, signal]) => ({
    code: code as number | null,
    signal: signal as NodeJS.Signals | null,
  }));
  return { texts, exited };
};

/** `tandem launch` that is ready; where its shards are not made yet, that takes longer. */
export const launchReady = async (
  file: string,
  environment: NodeJS.ProcessEnv = {},
  withinMs = 20_000,
): Promise<Spawned> => {
  const child = spawnLaunch(file, environment);
  const { texts, exited } = watch(child);
  await until(() => texts.stdout.trimEnd().endsWith('}') || child.exitCode !== null, withinMs);
  if (child.exitCode !== null) throw new Error(`launch ended with ${child.exitCode}: ${texts.stderr}`);
  const report = JSON.parse(texts.stdout) as { url: string; workers: { pid: number }[] };
  return {
    process: child,
    url: report.url,
    pids: report.workers.map(({ pid }) => pid),
    file,
    stderr: () => texts.stderr,
    exited,
  };
};

/** Runs `work` with a `tandem launch` that is ready, and stops it where `work` has not. */
export const withLaunched = <T>(
  server: string,
  work: (launched: Spawned) => Promise<T>,
  options: { readonly environment?: NodeJS.ProcessEnv; readonly defaults?: string } = {},
): Promise<T> =>
  withConfigFile(
    server,
    async (file) => {
      const launched = await launchReady(file, options.environment ?? {});
      try {
        return await work(launched);
      } finally {
        if (launched.process.exitCode === null) launched.process.kill('SIGINT');
        await launched.exited;
      }
    },
    options.defaults,
  );
