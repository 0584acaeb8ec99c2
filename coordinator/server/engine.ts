/**
 * The model as the server has it: running workers with a pipeline before them, and what is known of their state.
 *
 *     loading -> warming -> ready <-> recovering
 *         any of these -> failed, or -> closed
 *
 * Ready means proven: since the last load, every rank has finished a step with the same outputs. After the loss of a worker
 * the proof is the step of the image that is under way, or else a canary step.
 */
import { TandemError } from '../../partition/errors.js';
import { byteLength, type HostTensor, type TensorSpec } from '../../partition/tensor.js';
import type { Cluster, ClusterState, RankStep, StepAllResult } from '../cluster/index.js';
import type { Denoiser } from '../denoiser.js';
import { createPipeline, type Pipeline, type SchedulerName } from '../pipeline/index.js';

export type EngineState =
  | { readonly kind: 'loading' }
  | { readonly kind: 'warming' }
  | { readonly kind: 'ready' }
  | { readonly kind: 'recovering'; readonly error: TandemError }
  | { readonly kind: 'failed'; readonly error: TandemError }
  | { readonly kind: 'closed' };

/** A rank as `/health` shows it. */
export interface RankHealth {
  readonly rank: number;
  readonly state: string;
  readonly pid: number;
  readonly device: string;
  /** bytes */
  readonly weight_bytes: number;
  readonly memory_bytes: number;
  readonly peak_memory_bytes: number;
  /** ms; null before the first step */
  readonly last_step_ms: number | null;
  readonly last_exchange_ms: number | null;
  /** How often the rank's worker was started again. */
  readonly restarts: number;
}

/** How the pipeline is opened; a bare `.onnx` file has none. */
export interface PipelineRequest {
  readonly directory: string;
  readonly scheduler?: SchedulerName;
  /** pixels that the config promises */
  readonly width: number;
  readonly height: number;
}

export interface EngineOptions {
  /** `cpu:0`; index is the rank. */
  readonly devices: readonly string[];
  readonly onStep: (ranks: readonly RankStep[]) => void;
  readonly onState: (state: EngineState) => void;
}

const zeros = (specs: readonly TensorSpec[]): Record<string, HostTensor> =>
  Object.fromEntries(
    specs.map(({ name, dtype, shape }) => [
      name,
      { dtype, shape, data: new Uint8Array(byteLength({ dtype, shape })) } satisfies HostTensor,
    ]),
  );

/** @throws TandemError `RANKS_DISAGREE` where replicas have drifted apart: the picture would be wrong */
const checkAgreement = (ranks: readonly RankStep[]): void => {
  const digests = new Set(ranks.map(({ outputs_sha256 }) => outputs_sha256));
  if (digests.size <= 1) return;
  throw new TandemError(
    'RANKS_DISAGREE',
    `Expected the same outputs from all ${ranks.length} ranks after a step; found ${digests.size} different ones. Make the shard directory again with "tandem partition".`,
  );
};

const notOpened = (): TandemError => new TandemError('NOT_OPENED', 'Expected running workers; open the engine first.');

const proofFailed = (cause: unknown): TandemError =>
  cause instanceof TandemError
    ? cause
    : new TandemError('CANARY_FAILED', 'The first step after a recovery failed; launch again.', { cause });

type Inputs = Readonly<Record<string, HostTensor>>;

export class Engine {
  readonly #options: EngineOptions;
  readonly #listeners: ((error: TandemError) => void)[] = [];
  #state: EngineState = { kind: 'loading' };
  #cluster: Cluster | undefined;
  #pipeline: Pipeline | undefined;
  /** Settles when the step that was begun last is done: the workers take one at a time. */
  #lastStep: Promise<unknown> = Promise.resolve();
  #ending: Promise<void> | undefined;

  constructor(options: EngineOptions) {
    this.#options = options;
  }

  get state(): EngineState {
    return this.#state;
  }

  /** Undefined while loading, and for a model that makes no pictures. */
  get pipeline(): Pipeline | undefined {
    return this.#pipeline;
  }

  /** Workers started again after they were lost. */
  get restarts(): number {
    return this.#cluster?.restarts ?? 0;
  }

  /** Calls `listener` when the workers are lost for good; at once if they are. */
  onFailure(listener: (error: TandemError) => void): void {
    if (this.#state.kind === 'failed') listener(this.#state.error);
    else this.#listeners.push(listener);
  }

  /** Index is the rank. */
  get ranks(): readonly RankHealth[] {
    const steps = this.#cluster?.lastStep ?? [];
    const workers = this.#cluster?.workers ?? [];
    return this.#options.devices.map((device, rank) => {
      const worker = workers[rank];
      const times = steps[rank]?.times;
      return {
        rank,
        state: worker?.state ?? 'starting',
        pid: worker?.pid ?? 0,
        device,
        weight_bytes: worker?.weight_bytes ?? 0,
        memory_bytes: worker?.memory.private_bytes ?? 0,
        peak_memory_bytes: worker?.memory.peak_private_bytes ?? 0,
        last_step_ms: times?.total_ms ?? null,
        last_exchange_ms: times?.exchange_ms ?? null,
        restarts: worker?.restarts ?? 0,
      };
    });
  }

  /**
   * Takes over running workers, opens the pipeline before them and runs the canary step, unless the workers are warm: those
   * have run steps before. The engine closes them.
   * @throws TandemError as `createPipeline` and `Cluster.stepAll`, `RANKS_DISAGREE`, `SERVED_SIZE`
   */
  async open(cluster: Cluster, pipeline: PipelineRequest | undefined): Promise<void> {
    this.#cluster = cluster;
    this.#enter({ kind: 'warming' });
    cluster.onStateChange((state, error) => this.#follow(state, error));
    cluster.onFailure((error) => this.#enter({ kind: 'failed', error }));
    if (pipeline !== undefined) await this.#openPipeline(cluster, pipeline);
    if (cluster.warm) this.#enter({ kind: 'ready' });
    else await this.#prove();
  }

  /** Ends the pipeline and the workers; a step that is under way ends with `CLUSTER_CLOSED`. */
  close(): Promise<void> {
    this.#ending ??= this.#close();
    return this.#ending;
  }

  async #openPipeline(cluster: Cluster, { width, height, ...options }: PipelineRequest): Promise<void> {
    const denoiser = this.#denoiser(cluster);
    const pipeline = await createPipeline({ ...options, denoiser, size: { width, height } });
    this.#pipeline = pipeline;
    const { size } = pipeline;
    if (size.width === width && size.height === height) return;
    throw new TandemError(
      'SERVED_SIZE',
      `Expected the denoiser to be opened for the config's default size of ${width}x${height}; --dim makes it ${size.width}x${size.height}. Set defaults.width and defaults.height in the config instead.`,
    );
  }

  /** The workers as the pipeline steps them. */
  #denoiser({ inputs, outputs }: Cluster): Denoiser {
    return { inputs, outputs, step: async (feeds) => (await this.#step(feeds)).outputs };
  }

  /** Every step passes here, one at a time: it is checked, told, and proves that the workers are well. */
  #step(inputs: Inputs): Promise<StepAllResult> {
    const step = this.#lastStep.then(async () => {
      const cluster = this.#cluster;
      if (cluster === undefined) throw notOpened();
      const result = await cluster.stepAll(inputs);
      checkAgreement(result.ranks);
      this.#options.onStep(result.ranks);
      if (cluster.state === 'ready') this.#enter({ kind: 'ready' });
      return result;
    });
    this.#lastStep = step.catch(() => undefined);
    return step;
  }

  /** Runs a canary step, unless a step under way turns out to be the proof. */
  async #prove(): Promise<void> {
    await this.#lastStep;
    if (this.#cluster !== undefined && this.#state.kind !== 'ready') await this.#step(zeros(this.#cluster.inputs));
  }

  #follow(state: ClusterState, error: TandemError | undefined): void {
    switch (state) {
      case 'recovering':
        if (error !== undefined) this.#enter({ kind: 'recovering', error });
        return;
      case 'ready':
        this.#prove().catch((cause: unknown) => this.#enter({ kind: 'failed', error: proofFailed(cause) }));
        return;
      case 'starting':
      case 'failed':
      case 'closed':
        return;
      default:
        state satisfies never;
    }
  }

  #enter(state: EngineState): void {
    const { kind } = this.#state;
    if (kind === 'failed' || kind === 'closed' || (kind === 'ready' && state.kind === 'ready')) return;
    this.#state = state;
    this.#options.onState(state);
    if (state.kind === 'failed') for (const listener of this.#listeners) listener(state.error);
  }

  async #close(): Promise<void> {
    this.#enter({ kind: 'closed' });
    await this.#cluster?.close();
    await this.#pipeline?.close();
  }
}
