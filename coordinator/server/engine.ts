/**
 * The model as the server has it: running workers with a pipeline before them, and what is known of their state.
 *
 *     loading -> warming -> ready <-> recovering, disagreeing
 *         any of these -> failed, or -> closed
 *
 * Ready means proven: since the last load, every rank has finished a step with the same outputs. After the loss of a worker
 * the proof is the step of the image that is under way, or else a canary step. Ranks that disagree twice over a step make no
 * picture until a canary step, tried every few seconds, finds them agreed.
 */
import { TandemError } from '../../common/errors.js';
import { byteLength, type HostTensor, type TensorSpec } from '../../common/tensor.js';
import {
  type ClusterState,
  DENOISER,
  type RankStep,
  type StepOptions,
  type StepResult,
  type Workers,
} from '../cluster/index.js';
import { type Network, networkFrom } from '../denoiser.js';
import { type HostedNetwork, remotesOf } from '../hosting/index.js';
import { createPipeline, type Pipeline, type SchedulerName } from '../pipeline/index.js';

export type EngineState =
  | { readonly kind: 'loading' }
  | { readonly kind: 'warming' }
  | { readonly kind: 'ready' }
  | { readonly kind: 'recovering'; readonly error: TandemError }
  | { readonly kind: 'disagreeing'; readonly error: TandemError }
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

/** How the pipeline is opened. */
export interface PipelineRequest {
  readonly directory: string;
  readonly scheduler?: SchedulerName;
  /** pixels that the config promises */
  readonly width: number;
  readonly height: number;
  /** Where the networks beside the denoiser run. */
  readonly networks: readonly HostedNetwork[];
}

export interface EngineOptions {
  /** `cpu:0`; index is the rank. */
  readonly devices: readonly string[];
  /** Absent for a bare `.onnx` file. */
  readonly pipeline: PipelineRequest | undefined;
  /** Whether the pipeline is loaded from the start on, beside the workers, or for the first picture. */
  readonly loadParts: 'ahead' | 'on-demand';
  /** A pipeline of the same model whose text encoders and VAE are shared, where the workers run neither. */
  readonly base?: () => Promise<Pipeline>;
  readonly onState: (state: EngineState) => void;
}

const zeros = (specs: readonly TensorSpec[]): Record<string, HostTensor> =>
  Object.fromEntries(
    specs.map(({ name, dtype, shape }) => [
      name,
      { dtype, shape, data: new Uint8Array(byteLength({ dtype, shape })) } satisfies HostTensor,
    ]),
  );

/** How long ranks that disagree are left alone before the next canary step; ms. */
const PROOF_INTERVAL_MS = 5_000;

const notOpened = (): TandemError => new TandemError('NOT_OPENED', 'Expected running workers; open the engine first.');

const proofFailed = (cause: unknown): TandemError =>
  cause instanceof TandemError
    ? cause
    : new TandemError('CANARY_FAILED', 'The first step after a recovery failed; launch again.', { cause });

type Inputs = Readonly<Record<string, HostTensor>>;

/** The workers as they will be, once they are there. */
interface AwaitedCluster {
  readonly promise: Promise<Workers>;
  readonly resolve: (cluster: Workers) => void;
  readonly reject: (error: TandemError) => void;
}

const awaitCluster = (): AwaitedCluster => {
  let settle: Omit<AwaitedCluster, 'promise'> = { resolve: () => undefined, reject: () => undefined };
  const promise = new Promise<Workers>((resolve, reject) => {
    settle = { resolve, reject };
  });
  promise.catch(() => undefined);
  return { promise, ...settle };
};

/** Told of every step: of which network, and each rank's part in it. */
export type StepListener = (network: string, ranks: readonly RankStep[]) => void;

export class Engine {
  readonly #options: EngineOptions;
  readonly #stepListeners: StepListener[] = [];
  readonly #listeners: ((error: TandemError) => void)[] = [];
  readonly #opened = awaitCluster();
  #state: EngineState = { kind: 'loading' };
  #cluster: Workers | undefined;
  #version: string | undefined;
  #pipeline: Promise<Pipeline> | undefined;
  /** Steps that wait or are under way; none fails. */
  readonly #steps = new Set<Promise<unknown>>();
  #ending: Promise<void> | undefined;

  constructor(options: EngineOptions) {
    this.#options = options;
    // A failure is told by `open`, which waits for the pipeline too.
    if (options.pipeline !== undefined && options.loadParts === 'ahead') this.loadPipeline().catch(() => undefined);
  }

  get state(): EngineState {
    return this.#state;
  }

  /** Whether there is more than a denoiser. */
  get makesPictures(): boolean {
    return this.#options.pipeline !== undefined;
  }

  /** Digest of the denoiser's graph and weights; undefined while loading. */
  get version(): string | undefined {
    return this.#version;
  }

  /**
   * The pipeline, loaded where that is not done or under way. A failure is not for ever: the next call tries again.
   * @throws TandemError as `createPipeline`, `NOT_OPENED`
   */
  loadPipeline(): Promise<Pipeline> {
    this.#pipeline ??= this.#createPipeline().catch((error: unknown) => {
      this.#pipeline = undefined;
      throw error;
    });
    return this.#pipeline;
  }

  /** Workers started again after they were lost. */
  get restarts(): number {
    return this.#cluster?.restarts ?? 0;
  }

  /** Calls `listener` after every step of any network, also a canary. */
  onStep(listener: StepListener): void {
    this.#stepListeners.push(listener);
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
      const times = steps.find((step) => step.rank === rank)?.times;
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
   * Takes over running workers and runs the canary step, unless the workers are warm: those have run steps before. The engine
   * closes them.
   * @param version digest of their model
   * @throws TandemError as `createPipeline` and `Cluster.step`, `RANKS_DISAGREE`, `SERVED_SIZE`
   */
  async open(cluster: Workers, version: string): Promise<void> {
    const { pipeline, loadParts } = this.#options;
    this.#cluster = cluster;
    if (this.#ending !== undefined) {
      // It was closed while its workers started.
      await cluster.close();
      throw notOpened();
    }
    this.#version = version;
    this.#enter({ kind: 'warming' });
    cluster.onStateChange((state, error) => this.#follow(state, error));
    cluster.onFailure((error) => this.#enter({ kind: 'failed', error }));
    this.#opened.resolve(cluster);
    if (pipeline !== undefined && loadParts === 'ahead') await this.loadPipeline();
    if (cluster.warm) this.#enter({ kind: 'ready' });
    else await this.#prove();
  }

  /** Ends the pipeline and the workers; a step that is under way ends with `CLUSTER_CLOSED`. */
  close(): Promise<void> {
    this.#ending ??= this.#close();
    return this.#ending;
  }

  async #createPipeline(): Promise<Pipeline> {
    const { pipeline: asked } = this.#options;
    if (asked === undefined)
      throw new TandemError('NO_PIPELINE', 'A single .onnx file has no text encoder and no VAE.');
    const { width, height } = asked;
    const pipeline = await this.#pipelineFor(asked);
    const { size } = pipeline;
    if (size.width === width && size.height === height) return pipeline;
    await pipeline.close();
    throw new TandemError(
      'SERVED_SIZE',
      `Expected the denoiser to be opened for the config's default size of ${width}x${height}; --dim makes it ${size.width}x${size.height}. Set defaults.width and defaults.height in the config instead.`,
    );
  }

  async #pipelineFor({ width, height, networks: placed, ...options }: PipelineRequest): Promise<Pipeline> {
    const size = { width, height };
    const denoiser = this.#networkOf(DENOISER);
    const { base } = this.#options;
    if (base !== undefined && placed.every(({ run }) => run === undefined))
      return (await base()).resized(denoiser, size);
    const networks = remotesOf(placed, (name) => this.#networkOf(name));
    return createPipeline({ ...options, denoiser, networks, size });
  }

  /** A network of the workers as the pipeline steps it, once they are there. */
  #networkOf(name: string): Promise<Network> {
    const network = this.#opened.promise.then((cluster) =>
      networkFrom(
        cluster.network(name),
        async (microBatches, signal) => (await this.#step(microBatches, name, { signal })).outputs,
      ),
    );
    // A pipeline that fails first does not ask for it.
    network.catch(() => undefined);
    return network;
  }

  /** Every step passes here: it is checked and told, and the denoiser's proves that the workers are well. */
  #step(microBatches: readonly Inputs[], network: string, options: StepOptions = {}): Promise<StepResult> {
    const step = this.#checked(microBatches, network, options);
    const settled: Promise<unknown> = step.catch(() => undefined).then(() => this.#steps.delete(settled));
    this.#steps.add(settled);
    return step;
  }

  async #checked(microBatches: readonly Inputs[], network: string, options: StepOptions): Promise<StepResult> {
    const cluster = this.#cluster;
    if (cluster === undefined) throw notOpened();
    const result = await this.#agreed(cluster, microBatches, { ...options, network });
    for (const listener of this.#stepListeners) listener(network, result.ranks);
    const isProof = network === DENOISER && result.ranks.length === cluster.workers.length;
    if (isProof && cluster.state === 'ready') this.#enter({ kind: 'ready' });
    return result;
  }

  /** Before the first proof it is the start that ranks which disagree fail; afterwards they are asked again until they agree. */
  async #agreed(cluster: Workers, microBatches: readonly Inputs[], options: StepOptions): Promise<StepResult> {
    try {
      return await cluster.step(microBatches, options);
    } catch (error) {
      const isDisagreement = error instanceof TandemError && error.code === 'RANKS_DISAGREE';
      if (isDisagreement && this.#state.kind !== 'warming') this.#proveLater(error);
      throw error;
    }
  }

  #proveLater(error: TandemError): void {
    this.#enter({ kind: 'disagreeing', error });
    setTimeout(() => void this.#prove().catch(() => undefined), PROOF_INTERVAL_MS).unref();
  }

  /** Runs a canary step, unless a step under way turns out to be the proof. */
  async #prove(): Promise<void> {
    await Promise.all(this.#steps);
    if (this.#cluster !== undefined && this.#state.kind !== 'ready')
      await this.#step([zeros(this.#cluster.network().inputs)], DENOISER, { everywhere: true });
  }

  #follow(state: ClusterState, error: TandemError | undefined): void {
    switch (state) {
      case 'recovering':
        if (error !== undefined) this.#enter({ kind: 'recovering', error });
        return;
      case 'ready':
        this.#prove().catch((cause: unknown) => {
          if (this.#state.kind !== 'disagreeing') this.#enter({ kind: 'failed', error: proofFailed(cause) });
        });
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
    this.#opened.reject(notOpened());
    await this.#cluster?.close();
    const pipeline = await this.#pipeline?.catch(() => undefined);
    await pipeline?.close();
  }
}
