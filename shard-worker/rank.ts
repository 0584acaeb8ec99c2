/** One rank: its segments, its exchange with the peers, and the program `run segment, exchange, run segment, ...`. */
import { createHash } from 'node:crypto';
import { join } from 'node:path';
import { TandemError } from '../partition/errors.js';
import { type Manifest, type Profile, readManifest, type SegmentEntry } from '../partition/manifest.js';
import { checkProvider } from '../partition/onnxruntime.js';
import { byteLength, type HostTensor, type TensorSpec } from '../partition/tensor.js';
import { BufferPool, sharedBuffer } from './buffers.js';
import { checkRankFiles, findProfile } from './check.js';
import { ComputePool } from './compute-pool.js';
import type { Tensors } from './compute-protocol.js';
import { checkEndpoint } from './endpoints.js';
import { Exchange, stepAbandoned } from './exchange.js';
import { tensorProblems } from './inputs.js';
import { chooseLoader, type Loader } from './loader.js';
import { manifestDigest } from './manifest-digest.js';
import type { StepTimes, ToWorker } from './protocol.js';
import type { ExchangeInbox } from './transport.js';
import { proveWeights } from './weights-proof.js';

export type LoadOrder = Extract<ToWorker, { kind: 'load' }>;
export type ResetOrder = Extract<ToWorker, { kind: 'reset' }>;
export type StepOrder = Extract<ToWorker, { kind: 'step' }>;
export type OnProgress = (phase: 'check' | 'load' | 'step', done: number, total: number) => void;

export interface StepResult {
  readonly outputs: Tensors;
  readonly outputs_sha256: string;
  readonly times: StepTimes;
}

/** What was loaded. */
export interface LoadResult {
  readonly manifest_sha256: string;
  readonly profile: string;
  readonly weight_bytes: number;
}

const MB = 1 << 20;

const digestOf = (specs: readonly TensorSpec[], tensors: Tensors): string => {
  const hash = createHash('sha256');
  for (const { name } of specs) hash.update(tensors[name]?.data ?? '');
  return hash.digest('hex');
};

const checkPeers = (peers: readonly string[], worldSize: number, rank: number): void => {
  if (peers.length !== worldSize || rank >= worldSize) {
    throw new TandemError(
      'SHARD_WORLD_SIZE',
      `The shard directory was made for ${worldSize} ranks, but rank ${rank} of ${peers.length} was started; give as many devices as the directory has ranks, or partition again.`,
    );
  }
  for (const peer of peers) checkEndpoint(peer);
};

const checkOrder = (order: LoadOrder, manifest: Manifest, rank: number): void => {
  checkProvider(order.provider, order.device_id);
  checkPeers(order.peers, manifest.world_size, rank);
};

/** A rank that is being loaded or is ready to step. */
export class Rank {
  readonly rank: number;
  readonly #compute = new ComputePool();
  /** For what is exchanged. */
  readonly #buffers = new BufferPool(sharedBuffer);
  readonly #inbox: ExchangeInbox;
  readonly #onProgress: OnProgress;
  #profile: Profile | undefined;
  #exchange: Exchange | undefined;
  #progress = 0;
  /** Settles when the step under way has ended, in whatever way. */
  #running: Promise<unknown> | undefined;

  constructor(rank: number, inbox: ExchangeInbox, onProgress: OnProgress) {
    this.rank = rank;
    this.#inbox = inbox;
    this.#onProgress = onProgress;
  }

  /** Rises with every checked megabyte and every opened or finished segment. */
  get progress(): number {
    return this.#progress;
  }

  get awaiting(): readonly number[] {
    return this.#exchange?.awaiting ?? [];
  }

  /**
   * Checks the rank's files, opens its segments and connects to the peers.
   * @throws TandemError of `check.ts`, `PROVIDER_UNAVAILABLE`, `PROVIDER_DEVICE`, `SEGMENT_OPEN`, `SHARD_WORLD_SIZE`
   */
  async load(order: LoadOrder): Promise<LoadResult> {
    if (this.#profile) throw new TandemError('PROTOCOL_ORDER', 'Expected one "load" per worker, found a second one.');
    // Before the manifest itself: should it be replaced in between, the digest is one that nobody will ask for.
    const manifest_sha256 = await manifestDigest(order.shard_directory);
    const manifest = await readManifest(order.shard_directory);
    checkOrder(order, manifest, this.rank);
    const profile = findProfile(manifest, order.profile);
    this.#profile = profile;
    // A damaged graph could do anything to ONNX Runtime; damaged weights are only numbers until the first step.
    await checkRankFiles(order.shard_directory, manifest, this.rank, undefined, 'graphs');
    const loader = await chooseLoader(order.loader ?? 'auto', order.shard_directory);
    const checking = this.#checkWeights(order, manifest, loader);
    if (loader === 'read') await checking;
    const loading = [checking, this.#open(order, manifest, profile)];
    const failed = (await Promise.allSettled(loading)).find((result) => result.status === 'rejected');
    if (failed) throw failed.reason;
    this.#exchange = new Exchange({
      rank: this.rank,
      profile,
      inbox: this.#inbox,
      buffers: this.#buffers,
      peers: order.peers,
      timeoutMs: order.exchange_timeout_ms,
      afterStep: order.after_step ?? 0,
    });
    const weight_bytes = manifest.ranks[this.rank]?.weight_bytes ?? 0;
    return { manifest_sha256, profile: profile.name, weight_bytes };
  }

  /**
   * Runs the network once, together with the peers.
   * @throws TandemError `PROTOCOL_ORDER`, `STEP_INPUTS`, `SEGMENT_RUN`, `EXCHANGE_TIMEOUT`, `EXCHANGE_FRAME`, `STEP_ABANDONED`
   */
  async step(order: StepOrder): Promise<StepResult> {
    const { profile, exchange } = this.#ready();
    const problems = tensorProblems(profile.inputs, order.inputs);
    if (problems.length > 0)
      throw new TandemError('STEP_INPUTS', `Step inputs do not fit the profile: ${problems.join('; ')}.`, { problems });
    const running = this.#run(order, profile, exchange);
    this.#running = running.catch(() => undefined);
    try {
      return await running;
    } catch (error) {
      // Sends end in many ways when their sockets are closed.
      throw exchange.isAbandoned ? stepAbandoned() : error;
    } finally {
      this.#running = undefined;
    }
  }

  /**
   * Abandons the step under way, if there is one, and connects to the peers anew; what is loaded stays. A running segment
   * cannot be interrupted: it is waited for.
   * @throws TandemError `PROTOCOL_ORDER`, `SHARD_WORLD_SIZE`, those of `checkEndpoint`
   */
  async reset(order: ResetOrder): Promise<void> {
    const { profile, exchange } = this.#loaded('reset');
    checkPeers(order.peers, profile.ranks.length, this.rank);
    exchange.abandon(order.after_step);
    await this.#running;
    // The compute thread still holds the abandoned step's tensors.
    await this.#compute.finish({ arrived: {}, outputs: [] });
    exchange.connect(order.peers, order.exchange_timeout_ms);
  }

  /** @returns false if a segment was still running after `timeoutMs` */
  async close(timeoutMs: number): Promise<boolean> {
    this.#exchange?.close();
    return this.#compute.close(timeoutMs);
  }

  #loaded(order: string): { profile: Profile; exchange: Exchange } {
    const [profile, exchange] = [this.#profile, this.#exchange];
    if (profile === undefined || exchange === undefined)
      throw new TandemError('PROTOCOL_ORDER', `Expected "load" before "${order}".`);
    return { profile, exchange };
  }

  #ready(): { profile: Profile; exchange: Exchange } {
    const { profile, exchange } = this.#loaded('step');
    if (this.#running) throw new TandemError('PROTOCOL_ORDER', 'Expected one step at a time, found a second one.');
    return { profile, exchange };
  }

  async #checkWeights(order: LoadOrder, manifest: Manifest, loader: Loader): Promise<void> {
    let reported = 0;
    const onProgress = (done: number, total: number): void => {
      const megabytes = Math.floor(done / MB);
      if (megabytes === reported && done < total) return;
      this.#progress += megabytes - reported;
      reported = megabytes;
      this.#onProgress('check', done, total);
    };
    await proveWeights(order.shard_directory, manifest, this.rank, loader, onProgress);
  }

  async #open(order: LoadOrder, manifest: Manifest, profile: Profile): Promise<void> {
    const prepared = manifest.ranks[this.rank]?.prepared;
    const segments = profile.ranks[this.rank]?.segments ?? [];
    for (const [index, segment] of segments.entries()) {
      const path = join(order.shard_directory, segment.file);
      await this.#compute.open({
        path,
        segment,
        provider: order.provider,
        deviceId: order.device_id,
        threads: order.threads,
        ...(prepared ? { prepared } : {}),
      });
      this.#progress += 1;
      this.#onProgress('load', index + 1, segments.length);
    }
  }

  async #run(order: StepOrder, profile: Profile, exchange: Exchange): Promise<StepResult> {
    const start = performance.now();
    const segments = profile.ranks[this.rank]?.segments ?? [];
    let arrived = this.#copyAll(order.inputs);
    let computeMs = 0;
    let exchangeMs = 0;
    let sentBytes = 0;
    for (const [index, segment] of segments.entries()) {
      this.#buffers.give(exchange.takeDelivered(order.id));
      const sent = this.#makeSent(segment);
      const { compute_ms } = await this.#compute.run({ segment: index, arrived, sent });
      this.#buffers.give(Object.values(arrived));
      computeMs += compute_ms;
      this.#progress += 1;
      this.#onProgress('step', index + 1, segments.length);
      const exchangeStart = performance.now();
      const [bytes, received] = await Promise.all([
        exchange.send(order.id, index, sent),
        exchange.receive(order.id, index),
      ]);
      arrived = received;
      sentBytes += bytes;
      exchangeMs += performance.now() - exchangeStart;
    }
    const names = profile.outputs.map((output) => output.name);
    const outputs = await this.#compute.finish({ arrived, outputs: names });
    this.#buffers.give(Object.values(arrived));
    this.#checkOutputs(profile, outputs);
    const times = {
      total_ms: performance.now() - start,
      compute_ms: computeMs,
      exchange_ms: exchangeMs,
      sent_bytes: sentBytes,
    };
    return { outputs, outputs_sha256: digestOf(profile.outputs, outputs), times };
  }

  #makeSent({ sends, outputs }: SegmentEntry): Tensors {
    const sent = new Set(sends.map(({ tensor }) => tensor));
    const specs = outputs.filter(({ name }) => sent.has(name));
    return Object.fromEntries(specs.map((spec) => [spec.name, this.#buffers.tensor(spec)]));
  }

  #copyAll(tensors: Readonly<Record<string, HostTensor>>): Tensors {
    return Object.fromEntries(Object.entries(tensors).map(([name, tensor]) => [name, this.#buffers.copy(tensor)]));
  }

  #checkOutputs(profile: Profile, outputs: Tensors): void {
    const wrong = profile.outputs.filter((spec) => outputs[spec.name]?.data.byteLength !== byteLength(spec));
    if (wrong.length === 0) return;
    throw new TandemError(
      'STEP_OUTPUTS',
      `Outputs ${wrong.map(({ name }) => `"${name}"`).join(', ')} do not have the size that the manifest gives.`,
    );
  }
}
