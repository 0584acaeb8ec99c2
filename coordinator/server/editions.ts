/**
 * The versions of the model that the server has: the one that is shown to new requests, one that may be loading, and those that
 * finish what they were asked before another was shown. Each is whole: workers, pipeline, a queue and routes of its own.
 */
import type { Logger } from 'pino';
import type { ClusterConfig } from '../config/index.js';
import type { Launched } from '../launch.js';
import type { App } from './app.js';
import type { Engine } from './engine.js';
import { Engines, type StartHooks } from './engines.js';
import { Front, type Handler } from './front.js';
import { ImageStore } from './image-store.js';
import type { Metrics, Readings } from './metrics.js';
import { Pace } from './pace.js';
import { PictureThread } from './picture-thread.js';
import { Requests } from './requests.js';
import { readPage } from './routes/page.js';
import type { ServingPlan } from './serving-plan.js';
import { type Sizes, sizeName } from './sizes.js';
import { Studio } from './studio.js';
import type { SwapReport } from './swap-report.js';

export interface Edition {
  readonly config: ClusterConfig;
  readonly plan: ServingPlan;
  readonly engine: Engine;
  readonly sizes: Sizes;
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

const sum = (numbers: readonly number[]): number => numbers.reduce((total, number) => total + number, 0);

export class Editions {
  readonly #options: EditionsOptions;
  readonly #engines: Engines;
  readonly #studios = new Set<Studio>();
  readonly #front = new Front();
  readonly #pictures = new PictureThread();
  readonly #startedAt = Math.floor(Date.now() / 1000);
  readonly requests = new Requests();
  #metrics: Promise<Metrics> | undefined;
  #shown: Edition | undefined;

  constructor(options: EditionsOptions) {
    this.#options = options;
    this.#engines = new Engines(
      options.log,
      (...step) => void this.#metrics?.then(({ stepDone }) => stepDone(...step)),
    );
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
    const engine = this.#engines.create(config, plan);
    const sizes = this.#engines.sizesOf({ config, plan, engine });
    // Loaded meanwhile: modules that no worker and no session waits for.
    const [{ buildApp }, metrics, page] = await Promise.all([import('./app.js'), this.#loadMetrics(), readPage()]);
    const { served } = plan;
    const { maxQueue, maxRunning, trustProxy } = config.server;
    // The same for all versions: "server:" cannot change.
    const images = new ImageStore(config.server.images);
    const studio = new Studio({
      engine,
      sizes,
      served,
      pace: new Pace(),
      pictures: this.#pictures,
      images,
      metrics,
      maxRunning,
      maxQueue,
    });
    const shared = { images, requests: this.requests, startedAt: this.#startedAt };
    const parts = { served, size: sizeName(served), engine, sizes, studio, metrics, swaps, ...shared };
    const { app, handler } = await buildApp(parts, { apiKey, trustProxy, log, page, front: this.#front });
    return { config, plan, engine, sizes, studio, app, handler };
  }

  /** Starts a version's workers and proves them, and prepares the sizes that its config names. */
  async load(edition: Edition, hooks: StartHooks): Promise<Launched> {
    const launched = await this.#engines.start(edition, hooks);
    await this.#engines.prepareSizes(edition, hooks);
    return launched;
  }

  /** From now on new requests meet this version. */
  show(edition: Edition): void {
    this.#shown = edition;
    this.#studios.add(edition.studio);
    this.#front.show(edition.handler);
  }

  /** Ends a version that is no longer shown, once every request that it was given is answered. */
  async retire(edition: Edition): Promise<void> {
    await this.#front.answered(edition.handler);
    this.#studios.delete(edition.studio);
    await this.drop(edition);
  }

  /** Ends a version that was never shown. */
  async drop({ engine, sizes }: Edition): Promise<void> {
    await this.#engines.closeSizes(sizes);
    await this.#engines.close(engine);
  }

  /** Nothing more is let in. */
  drain(): void {
    for (const studio of this.#studios) studio.drain();
  }

  /** Ends all workers and pipelines, which ends what is under way. */
  async close(): Promise<void> {
    await this.#engines.closeAll();
    await this.#pictures.close();
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
      restarts: () => this.#engines.restarts,
      sizes: () => this.#shown?.sizes,
      swaps: this.#options.swaps,
      droppedLogLines: this.#options.droppedLogLines,
      rankMemory: () => this.#shown?.engine.ranks.map(({ memory_bytes }) => memory_bytes) ?? [],
    };
  }
}
