/**
 * The resident server's life: listen at once, so that probes are answered and a taken port is found before the long part;
 * load; prove that every rank works; serve; drain; close.
 */
import type { AddressInfo } from 'node:net';
import type { Logger } from 'pino';
import { TandemError } from '../../partition/errors.js';
import type { ClusterConfig, ServerConfig } from '../config/index.js';
import { planDenoiser, planPicture } from '../generate/picture.js';
import { cancelled, checkCancelled, type Hooks, isTerminated } from '../hooks.js';
import { type Launched, launch } from '../launch.js';
import type { Dims } from '../shards/dims.js';
import { type DenoiserModel, findDenoiserModel } from '../shards/model.js';
import { type App, buildApp } from './app.js';
import { resolveApiKey, urlOf } from './auth.js';
import { Engine, type EngineState, type PipelineRequest } from './engine.js';
import { stopped } from './errors.js';
import type { Served } from './image-body.js';
import { ImageStore } from './image-store.js';
import { createMetrics } from './metrics.js';
import { Pace } from './pace.js';
import type { ServerParts } from './parts.js';
import { PngThread } from './png-thread.js';
import { Requests } from './requests.js';
import { readPage } from './routes/page.js';
import { Studio } from './studio.js';

export interface ServeRequest extends Hooks {
  readonly config: ClusterConfig;
  /** Sizes of symbolic dims by name; the config's default picture decides those that are left out. */
  readonly dims?: Dims;
  readonly log: Logger;
  /** Stops the server: with `terminated()` as its reason after a drain, else at once. */
  readonly signal: AbortSignal;
  /** Told once, when every rank has run its first step. */
  readonly onReady: (ready: Ready) => void;
}

export interface Ready extends Launched {
  /** `http://127.0.0.1:8080` */
  readonly url: string;
}

/** What is served, decided before anything long begins. */
interface Plan {
  readonly planned: { readonly model: DenoiserModel; readonly dims: Dims };
  readonly served: Served;
  /** Absent for a bare `.onnx` file. */
  readonly pipeline?: PipelineRequest;
}

/** After the last request, how long its answer may take to leave; ms. */
const LAST_ANSWERS_MS = 5_000;

const planServing = async (config: ClusterConfig, dims: Dims | undefined): Promise<Plan> => {
  if (findDenoiserModel(config.model).directory === undefined) {
    const planned = await planDenoiser(config, dims);
    // It makes no pictures, so nobody can ask it for any steps.
    const defaults = { numInferenceSteps: 1, guidanceScale: 0 };
    return { planned, served: { model: planned.model.name, width: 0, height: 0, defaults } };
  }
  const planned = await planPicture(config, dims === undefined ? {} : { dims });
  const { model, directory, width, height, scheduler, numInferenceSteps, guidanceScale } = planned;
  const defaults = { numInferenceSteps, guidanceScale };
  const pipeline = { directory, width, height, ...(scheduler === undefined ? {} : { scheduler }) };
  return { planned, served: { model: model.name, width, height, defaults }, pipeline };
};

const logState = (log: Logger, state: EngineState): void => {
  const failed = state.kind === 'failed' || state.kind === 'recovering';
  if (failed) log.error({ state: state.kind, code: state.error.code, problem: state.error.message }, 'state');
  else log.info({ state: state.kind }, 'state');
};

interface Assembled {
  readonly parts: ServerParts;
  readonly close: () => Promise<void>;
}

const assemble = ({ config, log }: ServeRequest, { served }: Plan): Assembled => {
  const pace = new Pace();
  const png = new PngThread();
  const images = new ImageStore();
  const engine: Engine = new Engine({
    devices: config.devices.map(({ provider, deviceId }) => `${provider}:${deviceId}`),
    onState: (state) => logState(log, state),
    onStep: (ranks) => metrics.stepDone(ranks),
  });
  const studio: Studio = new Studio({
    engine,
    served,
    pace,
    png,
    metrics: () => metrics,
    maxQueue: config.server.maxQueue,
  });
  const metrics = createMetrics({
    running: () => studio.running,
    waiting: () => studio.waiting,
    ready: () => (engine.state.kind === 'ready' && !studio.draining ? 1 : 0),
    restarts: () => engine.restarts,
    rankMemory: () => engine.ranks.map(({ memory_bytes }) => memory_bytes),
  });
  const parts: ServerParts = {
    served,
    size: `${served.width}x${served.height}`,
    engine,
    studio,
    images,
    metrics,
    requests: new Requests(),
    startedAt: Math.floor(Date.now() / 1000),
  };
  const close = async (): Promise<void> => {
    await engine.close();
    await png.close();
    images.clear();
  };
  return { parts, close };
};

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

/** Waits until the signal fires, then returns; or until the workers are lost for good, then throws their error. */
const untilStopped = (engine: Engine, signal: AbortSignal): Promise<void> =>
  new Promise((resolve, reject) => {
    if (signal.aborted) resolve();
    signal.addEventListener('abort', () => resolve(), { once: true });
    engine.onFailure(reject);
  });

const drain = async ({ studio, requests }: ServerParts, log: Logger, drainMs: number): Promise<void> => {
  studio.drain();
  log.info({ running: studio.running, waiting: studio.waiting, limit_s: drainMs / 1000 }, 'draining');
  const done = await requests.finished(drainMs);
  log.info({ done }, done ? 'drained' : 'drain limit reached');
};

/** Lets what was asked for be finished where there is time, ends the rest, and leaves nothing behind. */
const stop = async ({ parts, close }: Assembled, app: App, { signal, log, config }: ServeRequest): Promise<void> => {
  const { studio, requests } = parts;
  if (isTerminated(signal)) await drain(parts, log, config.server.drainMs);
  studio.drain();
  requests.endAll(stopped());
  // Closing the workers ends a step that is under way, so that nobody waits for it.
  await close();
  await requests.finished(LAST_ANSWERS_MS);
  const timer = setTimeout(() => app.server.closeAllConnections(), LAST_ANSWERS_MS);
  await app.close();
  clearTimeout(timer);
};

/** An aborted signal closes the workers at once, which ends a first step that may take minutes. */
const openEngine = async (engine: Engine, { cluster }: Launched, plan: Plan, signal: AbortSignal): Promise<void> => {
  const abort = (): void => void engine.close();
  signal.addEventListener('abort', abort, { once: true });
  try {
    await engine.open(cluster, plan.pipeline);
  } catch (error) {
    checkCancelled(signal);
    throw error;
  } finally {
    signal.removeEventListener('abort', abort);
  }
  checkCancelled(signal);
};

/**
 * Serves a config until the signal fires.
 * @throws TandemError `SERVER_LISTEN`, `SERVER_API_KEY`, `SERVED_SIZE`, `RANKS_DISAGREE`, those of `launch`, the workers' own when
 *   they are lost for good, and the signal's reason; no process is left behind
 */
export const serve = async (request: ServeRequest): Promise<never> => {
  const { config, dims, log, signal } = request;
  const apiKey = resolveApiKey(config.server, process.env);
  const plan = await planServing(config, dims);
  const assembled = assemble(request, plan);
  const app = await buildApp(assembled.parts, { apiKey, log, page: await readPage() });
  try {
    const url = await listen(app, config.server, plan.served.model);
    const onNotice = (notice: string): void => log.info({ notice }, 'notice');
    const launched = await launch({ ...request, planned: plan.planned, onNotice });
    await openEngine(assembled.parts.engine, launched, plan, signal);
    request.onReady({ ...launched, url });
    await untilStopped(assembled.parts.engine, signal);
  } finally {
    await stop(assembled, app, request);
  }
  throw signal.reason instanceof TandemError ? signal.reason : cancelled();
};
