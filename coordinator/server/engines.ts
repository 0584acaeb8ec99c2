/** The engines of all versions and sizes: how each is made, started and ended. */
import type { Logger } from 'pino';
import type { ClusterConfig, PictureSize } from '../config/index.js';
import { checkCancelled, type Hooks } from '../hooks.js';
import { type Launched, launch } from '../launch.js';
import { prepareMesh } from '../mesh/index.js';
import type { Pipeline } from '../pipeline/index.js';
import { Engine, type EngineState, type StepListener } from './engine.js';
import { checkSizeFits } from './memory-check.js';
import { planServing, type ServingPlan } from './serving-plan.js';
import { type LoadHooks, Sizes, sizeName } from './sizes.js';

export type StartHooks = Hooks & { readonly signal: AbortSignal };

/** A version, or a size of one. */
export interface Startable {
  readonly config: ClusterConfig;
  readonly plan: ServingPlan;
  readonly engine: Engine;
}

const sum = (numbers: readonly number[]): number => numbers.reduce((total, number) => total + number, 0);

const logState = (log: Logger, size: string, state: EngineState): void => {
  if ('error' in state)
    log.error({ state: state.kind, size, code: state.error.code, problem: state.error.message }, 'state');
  else log.info({ state: state.kind, size }, 'state');
};

const planSize = (config: ClusterConfig, size: PictureSize): Promise<ServingPlan> =>
  planServing(config, undefined, size);

export class Engines {
  readonly #log: Logger;
  readonly #onStep: StepListener;
  readonly #engines = new Set<Engine>();
  readonly #sizes = new Set<Sizes>();
  /** Of engines that are gone. */
  #pastRestarts = 0;

  /** @param onStep told of every step of every engine */
  constructor(log: Logger, onStep: StepListener) {
    this.#log = log;
    this.#onStep = onStep;
  }

  /** Workers started again after they were lost, since the start. */
  get restarts(): number {
    return this.#pastRestarts + sum([...this.#engines].map(({ restarts }) => restarts));
  }

  /**
   * An engine without workers yet; its text encoder and VAE begin to load at once, where they are loaded ahead.
   * @param base whose text encoder and VAE it shares
   */
  create(config: ClusterConfig, plan: ServingPlan, base?: () => Promise<Pipeline>): Engine {
    const engine = new Engine({
      devices: config.devices.map(({ provider, deviceId }) => `${provider}:${deviceId}`),
      pipeline: plan.pipeline,
      loadParts: config.loadParts,
      ...(base === undefined ? {} : { base }),
      onState: (state) => logState(this.#log, sizeName(plan.served), state),
    });
    engine.onStep(this.#onStep);
    this.#engines.add(engine);
    return engine;
  }

  /** Starts an engine's workers and proves them. An aborted signal closes them at once, which ends a first step that may take minutes. */
  async start({ config, plan, engine }: Startable, hooks: StartHooks): Promise<Launched> {
    const onNotice = (notice: string): void => this.#log.info({ notice }, 'notice');
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

  /** The sizes of a version whose default one has this engine. */
  sizesOf({ config, plan, engine }: Startable): Sizes {
    const sizes = new Sizes({
      own: plan.served,
      engine,
      most: config.residentSizes,
      check: async (loaded, next, hooks) => {
        const version = async (size: PictureSize) => ({ config, plan: await planSize(config, size) });
        await checkSizeFits(await Promise.all(loaded.map(version)), await version(next), hooks);
      },
      load: (size, hooks) => this.#loadSize(config, engine, size, hooks),
      close: (sized) => this.close(sized),
    });
    this.#sizes.add(sizes);
    return sizes;
  }

  /** What the config wants prepared: as many sizes as may be are loaded, and of the others the shards are made. */
  async prepareSizes(
    { config, plan, sizes }: Omit<Startable, 'engine'> & { readonly sizes: Sizes },
    hooks: StartHooks,
  ) {
    const { signal, onProgress = () => undefined } = hooks;
    const others = config.sizes.filter((size) => sizeName(size) !== sizeName(plan.served));
    for (const size of others.slice(config.residentSizes)) {
      const { planned } = await planSize(config, size);
      await prepareMesh(config, planned, { signal, onProgress });
    }
    for (const size of others.slice(0, config.residentSizes))
      (await sizes.lease(size, { signal, onProgress })).release();
  }

  async close(engine: Engine): Promise<void> {
    await engine.close();
    if (this.#engines.delete(engine)) this.#pastRestarts += engine.restarts;
  }

  async closeSizes(sizes: Sizes): Promise<void> {
    await sizes.close();
    this.#sizes.delete(sizes);
  }

  /** Ends all workers and pipelines, which ends what is under way. */
  async closeAll(): Promise<void> {
    const sizes = [...this.#sizes].map((all) => this.closeSizes(all));
    await Promise.all([...this.#engines].map((engine) => this.close(engine)));
    await Promise.all(sizes);
  }

  async #loadSize(config: ClusterConfig, own: Engine, size: PictureSize, hooks: LoadHooks): Promise<Engine> {
    const name = sizeName(size);
    const start = performance.now();
    this.#log.info({ size: name }, 'preparing a size');
    const plan = await planSize(config, size);
    const engine = this.create(config, plan, () => own.loadPipeline());
    try {
      await this.start({ config, plan, engine }, hooks);
    } catch (error) {
      await this.close(engine);
      throw error;
    }
    const memory_bytes = sum(engine.ranks.map((rank) => rank.memory_bytes));
    this.#log.info({ size: name, ms: Math.round(performance.now() - start), memory_bytes }, 'size loaded');
    return engine;
  }
}
