/**
 * The model as the server has it: running workers with a pipeline before them, and what is known of their state.
 *
 *     loading -> warming -> ready <-> recovering
 *         any of these -> failed, or -> closed
 *
 * Ready means proven: every rank has run a step, and all ranks' outputs were equal, since it was loaded.
 */
import { TandemError } from '../../partition/errors.js';
import { byteLength, type HostTensor, type TensorSpec } from '../../partition/tensor.js';
import type { Cluster, RankStep } from '../cluster/index.js';
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

const checkAgreement = (ranks: readonly RankStep[]): void => {
  const digests = new Set(ranks.map(({ outputs_sha256 }) => outputs_sha256));
  if (digests.size <= 1) return;
  throw new TandemError(
    'CANARY_DISAGREES',
    `Expected the same outputs from all ${ranks.length} ranks in the first step; found ${digests.size} different ones. Make the shard directory again with "tandem partition".`,
  );
};

export class Engine {
  readonly #options: EngineOptions;
  readonly #listeners: ((error: TandemError) => void)[] = [];
  #state: EngineState = { kind: 'loading' };
  #cluster: Cluster | undefined;
  #pipeline: Pipeline | undefined;
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
    return 0;
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
        state: worker === undefined ? 'starting' : this.#state.kind,
        pid: worker?.pid ?? 0,
        device,
        weight_bytes: worker?.weight_bytes ?? 0,
        memory_bytes: worker?.memory.private_bytes ?? 0,
        peak_memory_bytes: worker?.memory.peak_private_bytes ?? 0,
        last_step_ms: times?.total_ms ?? null,
        last_exchange_ms: times?.exchange_ms ?? null,
      };
    });
  }

  /**
   * Takes over running workers, opens the pipeline before them and runs the canary step. The engine closes them.
   * @throws TandemError as `createPipeline` and `Cluster.stepAll`, `CANARY_DISAGREES`, `SERVED_SIZE`
   */
  async open(cluster: Cluster, pipeline: PipelineRequest | undefined): Promise<void> {
    this.#cluster = cluster;
    this.#enter({ kind: 'warming' });
    cluster.onFailure((error) => this.#enter({ kind: 'failed', error }));
    if (pipeline !== undefined) await this.#openPipeline(cluster, pipeline);
    const { ranks } = await cluster.stepAll(zeros(cluster.inputs));
    checkAgreement(ranks);
    this.#options.onStep(ranks);
    if (this.#state.kind === 'warming') this.#enter({ kind: 'ready' });
  }

  /** Ends the pipeline and the workers; a step that is under way ends with `CLUSTER_CLOSED`. */
  close(): Promise<void> {
    this.#ending ??= this.#close();
    return this.#ending;
  }

  async #openPipeline(cluster: Cluster, { width, height, ...options }: PipelineRequest): Promise<void> {
    const pipeline = await createPipeline({ ...options, denoiser: this.#observed(cluster) });
    this.#pipeline = pipeline;
    const { downscale } = pipeline.model.latents;
    const [, , rows = 0, columns = 0] = cluster.inputs.find(({ shape }) => shape.length === 4)?.shape ?? [];
    if (columns * downscale === width && rows * downscale === height) return;
    throw new TandemError(
      'SERVED_SIZE',
      `Expected the denoiser to be opened for the config's default size of ${width}x${height}; --dim makes it ${columns * downscale}x${rows * downscale}. Set defaults.width and defaults.height in the config instead.`,
    );
  }

  /** The workers as the pipeline steps them: every step is told. */
  #observed(cluster: Cluster): Denoiser {
    return {
      inputs: cluster.inputs,
      outputs: cluster.outputs,
      step: async (inputs) => {
        const { outputs, ranks } = await cluster.stepAll(inputs);
        this.#options.onStep(ranks);
        return outputs;
      },
    };
  }

  #enter(state: EngineState): void {
    if (this.#state.kind === 'failed' || this.#state.kind === 'closed') return;
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
