/**
 * The resident server's life: listen at once, so that probes are answered and a taken port is found before the long part;
 * load; prove that every rank works; serve, and swap versions where that is asked for; drain; close.
 */
import type { AddressInfo } from 'node:net';
import type { Logger } from 'pino';
import { TandemError } from '../../common/errors.js';
import type { ClusterConfig, ServerConfig } from '../config/index.js';
import { cancelled, type Hooks, isTerminated } from '../hooks.js';
import type { Launched } from '../launch.js';
import type { Dims } from '../shards/dims.js';
import type { App } from './app.js';
import { resolveApiKey, urlOf } from './auth.js';
import { type Edition, Editions } from './editions.js';
import type { Engine } from './engine.js';
import { stopped } from './errors.js';
import { planServing } from './serving-plan.js';
import { Swapper } from './swap.js';
import type { SwapOutcome } from './swap-report.js';

export interface ServeRequest extends Hooks {
  readonly config: ClusterConfig;
  /** Sizes of symbolic dims by name; the config's default picture decides those that are left out. */
  readonly dims?: Dims;
  readonly log: Logger;
  /** Lines of the log that were dropped, for the metrics. */
  readonly droppedLogLines?: () => number;
  /** Stops the server: with `terminated()` as its reason after a drain, else at once. */
  readonly signal: AbortSignal;
  /** Told once, when every rank has run its first step. */
  readonly onReady: (ready: Ready) => void;
}

export interface Ready extends Launched {
  /** `http://127.0.0.1:8080` */
  readonly url: string;
  /**
   * Serves another version, loaded beside the one that is served. Never rejects: a failure leaves the served one as it is.
   * @param read the new config, of which "server:" must be as it was
   */
  readonly swap: (read: () => Promise<ClusterConfig>) => Promise<SwapOutcome>;
}

/** After the last request, how long its answer may take to leave; ms. */
const LAST_ANSWERS_MS = 5_000;

const listen = async (app: App, { host, port }: ServerConfig, model: string): Promise<string> => {
  try {
    await app.listen({ host, port, listenTextResolver: (address) => `serving ${model} at ${address}` });
  } catch (cause) {
    const code = cause instanceof Error ? Reflect.get(cause, 'code') : undefined;
    const why = code === 'EADDRINUSE' ? 'another program listens there' : String(code ?? cause);
    throw new TandemError(
      'SERVER_LISTEN',
      `Expected to listen on ${host}:${port}; ${why}. Set server.host and server.port in the config, or give --port (0 takes a free one).`,
      { cause },
    );
  }
  const address = app.server.address() as AddressInfo;
  return urlOf(host, address.port);
};

/** Waits until the signal fires, then returns; or until the workers of the version that is shown are lost for good, then throws. */
class Watch {
  readonly stopped: Promise<void>;
  #reject: (error: TandemError) => void = () => undefined;

  constructor(signal: AbortSignal) {
    this.stopped = new Promise((resolve, reject) => {
      this.#reject = reject;
      if (signal.aborted) resolve();
      signal.addEventListener('abort', () => resolve(), { once: true });
    });
    this.stopped.catch(() => undefined);
  }

  /** @param isShown a version that is no longer shown may fail */
  follow(engine: Engine, isShown: () => boolean): void {
    engine.onFailure((error) => {
      if (isShown()) this.#reject(error);
    });
  }
}

const drain = async (editions: Editions, log: Logger, drainMs: number): Promise<void> => {
  editions.drain();
  log.info({ running: editions.running, waiting: editions.waiting, limit_s: drainMs / 1000 }, 'draining');
  const done = await editions.requests.finished(drainMs);
  log.info({ done }, done ? 'drained' : 'drain limit reached');
};

interface Parts {
  readonly editions: Editions;
  readonly swapper: Swapper;
}

/** Lets what was asked for be finished where there is time, ends the rest, and leaves nothing behind. */
const stop = async ({ editions, swapper }: Parts, app: App | undefined, request: ServeRequest): Promise<void> => {
  const { signal, log, config } = request;
  const { requests } = editions;
  swapper.stop();
  if (isTerminated(signal)) await drain(editions, log, config.server.drainMs);
  editions.drain();
  requests.endAll(stopped());
  // Closing the workers ends a step that is under way, so that nobody waits for it.
  await editions.close();
  await requests.finished(LAST_ANSWERS_MS);
  const timer = setTimeout(() => app?.server.closeAllConnections(), LAST_ANSWERS_MS);
  await app?.close();
  clearTimeout(timer);
  await swapper.settled();
};

const assemble = (
  { log, dims, droppedLogLines = () => 0 }: ServeRequest,
  apiKey: string | undefined,
  watch: Watch,
): Parts => {
  const editions: Editions = new Editions({ log, droppedLogLines, apiKey, swaps: () => swapper.report });
  const onShown = (edition: Edition): void => watch.follow(edition.engine, () => editions.shown === edition);
  const swapper = new Swapper({ editions, log, dims, onShown });
  return { editions, swapper };
};

/**
 * Serves a config until the signal fires.
 * @throws TandemError `SERVER_LISTEN`, `SERVER_API_KEY`, `SERVED_SIZE`, `RANKS_DISAGREE`, those of `launch`, the workers' own when
 *   they are lost for good, and the signal's reason; no process is left behind
 */
export const serve = async (request: ServeRequest): Promise<never> => {
  const { config, dims, signal } = request;
  const apiKey = resolveApiKey(config.server, process.env);
  const plan = await planServing(config, dims);
  const watch = new Watch(signal);
  const parts = assemble(request, apiKey, watch);
  const { editions, swapper } = parts;
  let app: App | undefined;
  try {
    const first = await editions.open(config, plan);
    app = first.app;
    editions.show(first);
    const url = await listen(app, config.server, plan.served.model);
    const launched = await editions.load(first, request);
    request.onReady({ ...launched, url, swap: (read) => swapper.swap(read) });
    watch.follow(first.engine, () => editions.shown === first);
    await watch.stopped;
  } finally {
    await stop(parts, app, request);
  }
  throw signal.reason instanceof TandemError ? signal.reason : cancelled();
};
