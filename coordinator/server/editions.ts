/**
 * The versions of the model that the server has: the one that is shown to new requests, one that may be loading, and those that
 * finish what they were asked before another was shown. Each is whole: workers, pipeline, a queue and routes of its own.
 */
import type { Logger } from 'pino';
import type { ClusterConfig } from '../config/index.js';
import { checkCancelled, type Hooks } from '../hooks.js';
import { type Launched, launch } from '../launch.js';
import type { App } from './app.js';
import { Engine, type EngineState } from './engine.js';
import { Front, type Handler } from './front.js';
import { ImageStore } from './image-store.js';
import type { Metrics, Readings } from './metrics.js';
import { Pace } from './pace.js';
import { PictureThread } from './picture-thread.js';
import { Requests } from './requests.js';
import { readPage } from './routes/page.js';
import type { ServingPlan } from './serving-plan.js';
import { Studio } from './studio.js';
import type { SwapReport } from './swap-report.js';

export interface Edition {
  readonly config: ClusterConfig;
  readonly plan: ServingPlan;
  readonly engine: Engine;
  readonly studio: Studio;
  readonly app: App;
  readonly handler: Handler;
}

export interface EditionsOptions {
  readonly log: Logger;
  readonly droppedLogLines: () => number;
  readonly apiKey: string | undefined;
  readonly swaps: () => SwapReport;
}

const logState = (log: Logger, state: EngineState): void => {
  if ('error' in state) log.error({ state: state.kind, code: state.error.code, problem: state.error.message }, 'state');
  else log.info({ state: state.kind }, 'state');
};

const sum = (numbers: readonly number[]): number => numbers.reduce((total, number) => total + number, 0);

export class Editions {
  readonly #options: EditionsOptions;
  readonly #engines = new Set<Engine>();
  readonly #studios = new Set<Studio>();
  readonly #front = new Front();
  readonly #pictures = new PictureThread();
  readonly #startedAt = Math.floor(Date.now() / 1000);
  readonly requests = new Requests();
  /** Of versions that are gone. */
  #pastRestarts = 0;
  #metrics: Promise<Metrics> | undefined;
  #shown: Edition | undefined;

  constructor(options: EditionsOptions) {
    this.#options = options;
  }

  /** What new requests meet; undefined before the first. */
  get shown(): Edition | undefined {
    return this.#shown;
  }

  get running(): number {
    return sum([...this.#studios].map(({ running }) => running));
  }

  get waiting(): number {
    return sum([...this.#studios].map(({ waiting }) => waiting));
  }

  /** Makes a version, not yet loaded. Its text encoder and VAE begin to load at once, where they are loaded ahead. */
  async open(config: ClusterConfig, plan: ServingPlan): Promise<Edition> {
    const { log, apiKey, swaps } = this.#options;
    const engine = new Engine({
      devices: config.devices.map(({ provider, deviceId }) => `${provider}:${deviceId}`),
      pipeline: plan.pipeline,
      loadParts: config.loadParts,
      onState: (state) => logState(log, state),
    });
    this.#engines.add(engine);
    // Loaded meanwhile: modules that no worker and no session waits for.
    const [{ buildApp }, metrics, page] = await Promise.all([import('./app.js'), this.#loadMetrics(), readPage()]);
    engine.onStep((network, ranks) => metrics.stepDone(network, ranks));
    const { served } = plan;
    const { maxQueue, trustProxy } = config.server;
    // The same for all versions: "server:" cannot change.
    const images = new ImageStore(config.server.images);
    const studio = new Studio({
      engine,
      served,
      pace: new Pace(),
      pictures: this.#pictures,
      images,
      metrics,
      maxQueue,
    });
    const size = `${served.width}x${served.height}`;
    const shared = { images, requests: this.requests, startedAt: this.#startedAt };
    const parts = { served, size, engine, studio, metrics, swaps, ...shared };
    const { app, handler } = await buildApp(parts, { apiKey, trustProxy, log, page, front: this.#front });
    return { config, plan, engine, studio, app, handler };
  }

  /** Starts a version's workers and proves them. An aborted signal closes them at once, which ends a first step that may take minutes. */
  async load({ config, plan, engine }: Edition, hooks: Hooks & { readonly signal: AbortSignal }): Promise<Launched> {
    const { log } = this.#options;
    const onNotice = (notice: string): void => log.info({ notice }, 'notice');
    const launched = await launch({ ...hooks, config, planned: plan.planned, onNotice });
    const abort = (): void => void engine.close();
    hooks.signal.addEventListener('abort', abort, { once: true });
    try {
      await engine.open(launched.cluster, launched.shards.manifest.model.sha256);
    } catch (error) {
      checkCancelled(hooks.signal);
      throw error;
    } finally {
      hooks.signal.removeEventListener('abort', abort);
    }
    checkCancelled(hooks.signal);
    return launched;
  }

  /** From now on new requests meet this version. */
  show(edition: Edition): void {
    this.#shown = edition;
    this.#studios.add(edition.studio);
    this.#front.show(edition.handler);
  }

  /** Ends a version that is no longer shown, once every request that it was given is answered. */
  async retire({ engine, studio, handler }: Edition): Promise<void> {
    await this.#front.answered(handler);
    this.#studios.delete(studio);
    await this.#closeEngine(engine);
  }

  /** Ends a version that was never shown. */
  async drop({ engine }: Edition): Promise<void> {
    await this.#closeEngine(engine);
  }

  /** Nothing more is let in. */
  drain(): void {
    for (const studio of this.#studios) studio.drain();
  }

  /** Ends all workers and pipelines, which ends what is under way. */
  async close(): Promise<void> {
    await Promise.all([...this.#engines].map((engine) => this.#closeEngine(engine)));
    await this.#pictures.close();
  }

  async #closeEngine(engine: Engine): Promise<void> {
    await engine.close();
    if (this.#engines.delete(engine)) this.#pastRestarts += engine.restarts;
  }

  #loadMetrics(): Promise<Metrics> {
    this.#metrics ??= import('./metrics.js').then(({ createMetrics }) => createMetrics(this.#readings()));
    return this.#metrics;
  }

  #readings(): Readings {
    return {
      running: () => this.running,
      waiting: () => this.waiting,
      ready: () => (this.#shown?.engine.state.kind === 'ready' && !this.#shown.studio.draining ? 1 : 0),
      restarts: () => this.#pastRestarts + sum([...this.#engines].map(({ restarts }) => restarts)),
      swaps: this.#options.swaps,
      droppedLogLines: this.#options.droppedLogLines,
      rankMemory: () => this.#shown?.engine.ranks.map(({ memory_bytes }) => memory_bytes) ?? [],
    };
  }
}
