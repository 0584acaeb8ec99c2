/**
 * Several groups of workers as one: a tree whose leaves are clusters. Each group recovers from its own losses; what is known of
 * the workers is what the groups know, with the ranks counted through.
 */
import { TandemError } from '../../common/errors.js';
import type { HostTensor, TensorSpec } from '../../common/tensor.js';
import {
  type ClusterState,
  DENOISER,
  type RankStep,
  type StepOptions,
  type StepResult,
  type Workers,
} from '../cluster/index.js';
import { type Network, networkFrom } from '../denoiser.js';

export type Inputs = Readonly<Record<string, HostTensor>>;

/** How a step is shared among the parts. */
export interface Way {
  readonly inputs: readonly TensorSpec[];
  readonly outputs: readonly TensorSpec[];
  /** Each rank's part as its own group numbers it. */
  step(parts: readonly Workers[], microBatches: readonly Inputs[], options: StepOptions): Promise<PartsResult>;
}

export interface PartsResult {
  readonly outputs: StepResult['outputs'];
  readonly ranks: readonly { readonly part: number; readonly ranks: readonly RankStep[] }[];
}

type StateListener = (state: ClusterState, error?: TandemError) => void;

/** The first of these that a part is in is what the whole is in. */
const WORST: readonly ClusterState[] = ['failed', 'closed', 'starting', 'recovering', 'ready'];

const sumTimes = (a: RankStep['times'], b: RankStep['times']): RankStep['times'] => {
  const sum = { ...a };
  for (const key of Object.keys(sum) as (keyof typeof sum)[]) sum[key] = a[key] + b[key];
  return sum;
};

/** What a rank did in all its parts of a step. */
const merged = (steps: readonly RankStep[]): readonly RankStep[] => {
  const byRank = new Map<number, RankStep>();
  for (const step of steps) {
    const before = byRank.get(step.rank);
    byRank.set(step.rank, before === undefined ? step : { ...step, times: sumTimes(before.times, step.times) });
  }
  return [...byRank.values()].toSorted((a, b) => a.rank - b.rank);
};

export class Mesh implements Workers {
  readonly #parts: readonly Workers[];
  readonly #way: Way;
  /** Index is the rank. */
  readonly #last: RankStep[] = [];
  readonly #stateListeners = new Set<StateListener>();
  #state: ClusterState;

  constructor(parts: readonly Workers[], way: Way) {
    this.#parts = parts;
    this.#way = way;
    this.#state = this.#worst();
    for (const part of parts) part.onStateChange((_, error) => this.#follow(error));
  }

  get workers(): Workers['workers'] {
    return this.#parts.flatMap((part, index) =>
      part.workers.map((worker) => ({ ...worker, rank: worker.rank + this.#offset(index) })),
    );
  }

  get state(): ClusterState {
    return this.#state;
  }

  get restarts(): number {
    return this.#parts.reduce((sum, { restarts }) => sum + restarts, 0);
  }

  get warm(): boolean {
    return this.#parts.every(({ warm }) => warm);
  }

  get lastStep(): readonly RankStep[] {
    return this.#last.filter((step) => step !== undefined);
  }

  onFailure(listener: (error: TandemError) => void): void {
    for (const part of this.#parts) part.onFailure(listener);
  }

  onStateChange(listener: StateListener): () => void {
    this.#stateListeners.add(listener);
    return () => void this.#stateListeners.delete(listener);
  }

  network(name: string = DENOISER): Network {
    checkName(name);
    return networkFrom(
      this.#way,
      async (microBatches, signal) => (await this.step(microBatches, { network: name, signal })).outputs,
    );
  }

  async step(microBatches: readonly Inputs[], options: StepOptions = {}): Promise<StepResult> {
    checkName(options.network ?? DENOISER);
    const { outputs, ranks } = await this.#way.step(this.#parts, microBatches, options);
    const all = ranks.flatMap(({ part, ranks: own }) =>
      own.map((step) => ({ ...step, rank: step.rank + this.#offset(part) })),
    );
    const done = merged(all);
    for (const { outputs: _, ...step } of done) this.#last[step.rank] = step;
    return { outputs, ranks: done };
  }

  async close(): Promise<void> {
    await Promise.all(this.#parts.map((part) => part.close()));
  }

  #offset(part: number): number {
    return this.#parts.slice(0, part).reduce((sum, { workers }) => sum + workers.length, 0);
  }

  #worst(): ClusterState {
    return WORST.find((state) => this.#parts.some((part) => part.state === state)) ?? 'ready';
  }

  #follow(error: TandemError | undefined): void {
    const state = this.#worst();
    if (state === this.#state) return;
    this.#state = state;
    for (const listener of this.#stateListeners) listener(state, error);
  }
}

const checkName = (name: string): void => {
  if (name === DENOISER) return;
  throw new TandemError(
    'CLUSTER_NETWORK',
    `Expected the denoiser, which is all that several groups of workers run; found "${name}". Leave placement out, or use parallel: tensor.`,
  );
};
