/**
 * The sizes that a version is loaded for. The planner splits a model a little differently for each size, so each has shards and
 * workers of its own, which share the weights that are the same; the default one stays, and of the others only so many are loaded at a time. One that is not is made when it is asked
 * for, one after the other, while pictures of those that are there are made; the one that was not used for longest goes first.
 */
import type { PictureSize } from '../config/index.js';
import type { Hooks } from '../hooks.js';
import type { Engine } from './engine.js';

export type Progress = NonNullable<Hooks['onProgress']>;

export interface LoadHooks {
  readonly onProgress: Progress;
  readonly signal: AbortSignal;
}

/** The right to use an engine, which stays loaded meanwhile. */
export interface Lease {
  readonly engine: Engine;
  release(): void;
}

export interface SizesOptions {
  readonly own: PictureSize;
  /** For the size of its own. */
  readonly engine: Engine;
  /** Others that may be loaded at a time. */
  readonly most: number;
  /** @throws where a size does not fit the devices' memory beside those that are loaded */
  readonly check: (loaded: readonly PictureSize[], next: PictureSize, hooks: LoadHooks) => Promise<void>;
  readonly load: (size: PictureSize, hooks: LoadHooks) => Promise<Engine>;
  readonly close: (engine: Engine) => Promise<void>;
}

/** A size that is loaded. */
interface Resident {
  readonly size: PictureSize;
  readonly engine: Engine;
  users: number;
  /** Told when the last user is gone. */
  onIdle: () => void;
}

export interface LoadedSize {
  readonly size: string;
  readonly engine: Engine;
}

export const sizeName = ({ width, height }: PictureSize): string => `${width}x${height}`;

const isOver = ({ engine }: Resident): boolean => engine.state.kind === 'failed' || engine.state.kind === 'closed';

export class Sizes {
  readonly #options: SizesOptions;
  /** In the order of their last use. */
  readonly #resident = new Map<string, Resident>();
  readonly #watchers = new Map<string, Set<Progress>>();
  readonly #closing = new AbortController();
  /** Settles when the load that was begun last is done. */
  #lastLoad: Promise<unknown> = Promise.resolve();
  #loads = 0;

  constructor(options: SizesOptions) {
    this.#options = options;
  }

  /** The default size first. */
  get loaded(): readonly LoadedSize[] {
    const { own, engine } = this.#options;
    const others = [...this.#resident].map(([size, resident]) => ({ size, engine: resident.engine }));
    return [{ size: sizeName(own), engine }, ...others];
  }

  /** Of sizes beside the default one, since the start. */
  get loads(): number {
    return this.#loads;
  }

  /**
   * Waits until a size is loaded. The caller releases it.
   * @throws the signal's reason where it fires before; as `check` and `load`
   */
  async lease(size: PictureSize, hooks: LoadHooks): Promise<Lease> {
    const name = sizeName(size);
    if (name === sizeName(this.#options.own)) return { engine: this.#options.engine, release: () => undefined };
    const there = this.#resident.get(name);
    if (there !== undefined && !isOver(there)) return this.#take(name, there);
    this.#watch(name, hooks.onProgress);
    try {
      return await this.#inTurn(() => this.#find(size, hooks.signal));
    } finally {
      this.#watchers.get(name)?.delete(hooks.onProgress);
    }
  }

  /** Ends the workers of all sizes but the default one. */
  async close(): Promise<void> {
    this.#closing.abort();
    await this.#lastLoad;
    const engines = [...this.#resident.values()].map(({ engine }) => engine);
    this.#resident.clear();
    await Promise.all(engines.map((engine) => this.#options.close(engine)));
  }

  #watch(name: string, onProgress: Progress): void {
    const watchers = this.#watchers.get(name) ?? new Set();
    this.#watchers.set(name, watchers.add(onProgress));
  }

  #inTurn<T>(work: () => Promise<T>): Promise<T> {
    const result = this.#lastLoad.then(work);
    this.#lastLoad = result.catch(() => undefined);
    return result;
  }

  /** Somebody may have loaded it meanwhile. */
  async #find(size: PictureSize, signal: AbortSignal): Promise<Lease> {
    const name = sizeName(size);
    const both = AbortSignal.any([signal, this.#closing.signal]);
    both.throwIfAborted();
    const there = this.#resident.get(name);
    if (there !== undefined && !isOver(there)) return this.#take(name, there);
    if (there !== undefined) await this.#drop(name, there);
    const onProgress: Progress = (...progress) => {
      for (const watcher of this.#watchers.get(name) ?? []) watcher(...progress);
    };
    const all = { onProgress, signal: both };
    await this.#makeRoom(size, all);
    const engine = await this.#options.load(size, all);
    this.#loads += 1;
    const resident: Resident = { size, engine, users: 0, onIdle: () => undefined };
    engine.onFailure(() => void this.#drop(name, resident));
    return this.#take(name, resident);
  }

  #take(name: string, resident: Resident): Lease {
    this.#resident.delete(name);
    this.#resident.set(name, resident);
    resident.users += 1;
    let released = false;
    const release = (): void => {
      if (released) return;
      released = true;
      resident.users -= 1;
      if (resident.users === 0) resident.onIdle();
    };
    return { engine: resident.engine, release };
  }

  async #makeRoom(size: PictureSize, hooks: LoadHooks): Promise<void> {
    const { most, own, check } = this.#options;
    while (this.#resident.size >= most) await this.#dropOldest();
    for (;;) {
      const loaded = [own, ...[...this.#resident.values()].map((resident) => resident.size)];
      const problem = await check(loaded, size, hooks).catch((error: unknown) => ({ error }));
      if (problem === undefined) return;
      if (this.#resident.size === 0) throw problem.error;
      await this.#dropOldest();
    }
  }

  async #dropOldest(): Promise<void> {
    const all = [...this.#resident];
    const [name, resident] = all.find(([, { users }]) => users === 0) ?? all[0] ?? [];
    if (name !== undefined && resident !== undefined) await this.#drop(name, resident);
  }

  /** Nobody new gets it; those who have it finish. */
  async #drop(name: string, resident: Resident): Promise<void> {
    if (this.#resident.get(name) === resident) this.#resident.delete(name);
    if (resident.users > 0 && !isOver(resident))
      await new Promise<void>((resolve) => {
        resident.onIdle = resolve;
      });
    await this.#options.close(resident.engine);
  }
}
