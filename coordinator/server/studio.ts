/**
 * Where requests become pictures: admits as many as may wait, lets several be made at a time, and tells of every step, of
 * partial pictures and of the picture itself.
 */
import { randomInt } from 'node:crypto';
import type { ImageParameters, Pipeline, RgbImage, StepProgress } from '../pipeline/index.js';
import type { Engine } from './engine.js';
import { draining, noPictures, notReady, queueFull, shareTaken } from './errors.js';
import { type ImageBody, pixelsOf, type Served } from './image-body.js';
import type { ImageStore } from './image-store.js';
import type { Metrics } from './metrics.js';
import type { Pace } from './pace.js';
import { PartialPictures } from './partial-pictures.js';
import type { PictureThread } from './picture-thread.js';
import { type Lease, type Sizes, sizeName } from './sizes.js';
import { type Turn, Turns } from './turns.js';

/** What happens to a request; `index` is the picture's, from 0. */
export type ImageEvent =
  | { readonly kind: 'queued'; readonly index: number; readonly ahead: number; readonly wait_s: number }
  | {
      /** A size that was not loaded is being prepared. */
      readonly kind: 'preparing';
      readonly size: string;
      readonly stage: string;
      /** In the stage's own unit. */
      readonly done: number;
      readonly total: number;
    }
  | {
      readonly kind: 'progress';
      readonly index: number;
      readonly step: number;
      readonly steps: number;
      readonly step_ms: number;
      readonly remaining_s: number;
    }
  | {
      readonly kind: 'partial';
      readonly index: number;
      /** How many partial pictures this one had before. */
      readonly partial: number;
      readonly step: number;
      readonly file: Uint8Array;
    }
  | {
      readonly kind: 'image';
      readonly index: number;
      readonly seed: number;
      readonly file: Uint8Array;
      /** Where it lies, from the server's own address on; where it was asked for by address. */
      readonly path?: string;
      readonly warnings: readonly string[];
    };

export interface StudioOptions {
  readonly engine: Engine;
  readonly sizes: Sizes;
  readonly served: Served;
  readonly metrics: Metrics;
  readonly pace: Pace;
  readonly pictures: PictureThread;
  readonly images: ImageStore;
  /** Pictures that may be made at a time. */
  readonly maxRunning: number;
  /** Requests that may wait. */
  readonly maxQueue: number;
}

/** A request that was let in. */
export interface Job {
  /** Makes all its pictures; settles when nothing of it is left. @throws the signal's reason where it fires */
  run(onEvent: (event: ImageEvent) => void): Promise<void>;
}

const MAX_DRAWN_SEED = 2 ** 32;
/** Before anything was measured. */
const LEAST_RETRY_S = 1;
const LOADING_RETRY_S = 5;
/** How often the progress of a size that is being prepared is told; ms. */
const PREPARING_EVERY_MS = 500;
/** Of JPEG and WebP. */
const DEFAULT_QUALITY = 90;

const seconds = (ms: number): number => Math.round(ms / 100) / 10;

export class Studio {
  readonly #options: StudioOptions;
  readonly #turns: Turns;
  /** Denoiser calls of so many steps, which the scheduler says; one a step until the first picture has loaded it. */
  #calls: Pipeline['modelCalls'] = (steps) => steps;
  /** Requests that were let in, by client. */
  readonly #admitted = new Map<string, number>();
  #draining = false;

  constructor(options: StudioOptions) {
    this.#options = options;
    this.#turns = new Turns(options.maxRunning);
  }

  get running(): number {
    return this.#turns.running;
  }

  /** Requests that were let in and whose picture is not being made. */
  get waiting(): number {
    return this.#admittedInAll() - this.#turns.running;
  }

  get draining(): boolean {
    return this.#draining;
  }

  /** From now on nothing is let in. */
  drain(): void {
    this.#draining = true;
  }

  /**
   * Lets a request in, which must then be run.
   * @param client whose share of the queue it takes: an address
   * @throws ApiError 429 when as many wait as may, in all or of this client; 503 while nothing can be made, 501 where nothing ever can
   */
  admit(body: ImageBody, client: string, signal: AbortSignal): Job {
    this.#checkOpen();
    this.#checkPlace(client);
    this.#count(client, 1);
    return {
      run: async (onEvent) => {
        try {
          await this.#makeAll(body, client, signal, onEvent);
        } finally {
          this.#count(client, -1);
        }
      },
    };
  }

  /** A quarter of the places is never one client's. */
  #checkPlace(client: string): void {
    const { maxQueue, maxRunning } = this.#options;
    const places = maxQueue + maxRunning;
    const share = places - Math.floor(places / 4);
    if (this.#admittedInAll() >= places) throw queueFull(maxQueue, this.#retryAfterS());
    if ((this.#admitted.get(client) ?? 0) >= share) throw shareTaken(share, this.#retryAfterS());
  }

  #admittedInAll(): number {
    return [...this.#admitted.values()].reduce((sum, requests) => sum + requests, 0);
  }

  #count(client: string, change: 1 | -1): void {
    const now = (this.#admitted.get(client) ?? 0) + change;
    if (now === 0) this.#admitted.delete(client);
    else this.#admitted.set(client, now);
  }

  #checkOpen(): void {
    const { engine, served } = this.#options;
    if (this.#draining) throw draining(LOADING_RETRY_S);
    const { state } = engine;
    switch (state.kind) {
      case 'loading':
        throw notReady('the workers are loading', LOADING_RETRY_S);
      case 'warming':
        throw notReady('the workers are running their first step', LEAST_RETRY_S);
      case 'disagreeing':
        throw notReady('the workers disagree over a step', LOADING_RETRY_S);
      case 'failed':
        throw notReady(`the workers failed (${state.error.code})`, LOADING_RETRY_S);
      case 'closed':
        throw draining(LOADING_RETRY_S);
      case 'ready':
      case 'recovering':
        if (!engine.makesPictures) throw noPictures(served.model);
        return;
      default:
        state satisfies never;
    }
  }

  /** When a place in line should be free: when the first of the pictures that are being made is done. */
  #retryAfterS(): number {
    const left = this.#turns.stepsToNextEnd ?? 0;
    return Math.max(LEAST_RETRY_S, Math.ceil(this.#options.pace.pictureMs(left) / 1000));
  }

  async #makeAll(
    body: ImageBody,
    client: string,
    signal: AbortSignal,
    onEvent: (event: ImageEvent) => void,
  ): Promise<void> {
    const lease = await this.#lease(body, signal, onEvent);
    try {
      const first = body.seed ?? randomInt(MAX_DRAWN_SEED);
      for (let index = 0; index < body.n; index++)
        await this.#makeInTurn({ engine: lease.engine, body, client, index, seed: first + index, signal, onEvent });
    } finally {
      lease.release();
    }
  }

  async #lease(body: ImageBody, signal: AbortSignal, onEvent: (event: ImageEvent) => void): Promise<Lease> {
    const size = pixelsOf(body, this.#options.served);
    let toldAt = 0;
    let toldStage = '';
    const onProgress = (stage: string, done: number, total: number): void => {
      if (stage === toldStage && performance.now() - toldAt < PREPARING_EVERY_MS) return;
      toldAt = performance.now();
      toldStage = stage;
      onEvent({ kind: 'preparing', size: sizeName(size), stage, done, total });
    };
    const lease = await this.#options.sizes.lease(size, { onProgress, signal });
    if (lease.engine.state.kind !== 'disagreeing') return lease;
    lease.release();
    throw notReady('the workers disagree over a step', LOADING_RETRY_S);
  }

  /** A step's work against one of the default size: what is counted in steps is counted in those. */
  #weight(body: ImageBody): number {
    const { served } = this.#options;
    const { width, height } = pixelsOf(body, served);
    return (width * height) / (served.width * served.height);
  }

  async #makeInTurn({ engine, client, ...work }: QueuedWork): Promise<void> {
    const { body, signal, index, onEvent } = work;
    const { metrics, pace } = this.#options;
    const weight = this.#weight(body);
    const turn = await this.#turns.take({
      client,
      steps: this.#calls(body.num_inference_steps) * weight,
      signal,
      onPosition: (ahead, stepsAhead) => {
        const wait_s = seconds(stepsAhead.reduce((sum, steps) => sum + pace.pictureMs(steps), 0));
        onEvent({ kind: 'queued', index, ahead, wait_s });
      },
    });
    try {
      metrics.waited(turn.waitedMs);
      const pipeline = await engine.loadPipeline();
      this.#calls = pipeline.modelCalls;
      await this.#makeOne({ ...work, weight, pipeline, turn });
    } finally {
      turn.release();
    }
  }

  async #makeOne(work: Work): Promise<void> {
    const { pipeline, body, index, seed, turn, weight, signal, onEvent } = work;
    const { served, pace } = this.#options;
    const start = performance.now();
    const image = {
      prompt: body.prompt,
      ...(body.negative_prompt === undefined ? {} : { negativePrompt: body.negative_prompt }),
      seed,
      numInferenceSteps: body.num_inference_steps,
      guidanceScale: body.guidance_scale,
    };
    const parameters = { ...image, scheduler: pipeline.scheduler, model: served.model };
    const encode = (picture: RgbImage): Promise<Uint8Array> => this.#encode(picture, parameters, body);
    let partial = 0;
    const partials = new PartialPictures({
      most: body.stream ? body.partial_images : 0,
      draw: async (latents) => encode(await pipeline.decode(latents)),
      onPicture: (step, file) => onEvent({ kind: 'partial', index, partial: partial++, step, file }),
    });
    const onStep = (progress: StepProgress): void => {
      this.#tellStep(work, progress);
      partials.offer(progress);
    };
    try {
      turn.progress(pipeline.modelCalls(body.num_inference_steps) * weight);
      const made = await pipeline.generateImage({ ...image, onStep, signal });
      await partials.settled();
      const file = await encode(made.image);
      const path = await this.#keep(file, body);
      pace.addRest((performance.now() - start - made.timings.denoise_ms) / weight);
      onEvent({ kind: 'image', index, seed, file, ...path, warnings: made.warnings });
    } finally {
      await partials.settled();
    }
  }

  #encode(picture: RgbImage, parameters: ImageParameters, body: ImageBody): Promise<Uint8Array> {
    // OpenAI's compression of 0 is the codecs' least quality.
    const quality = Math.max(1, body.output_compression ?? DEFAULT_QUALITY);
    return this.#options.pictures.encode({ picture, parameters, format: body.output_format, quality });
  }

  async #keep(file: Uint8Array, body: ImageBody): Promise<{ readonly path?: string }> {
    if (body.response_format !== 'url') return {};
    return { path: await this.#options.images.add(file, body.output_format) };
  }

  #tellStep({ index, turn, weight, onEvent }: Work, { step, steps, step_ms }: StepProgress): void {
    const { pace } = this.#options;
    // While several are made, each waits for the steps of the others.
    const together = Math.max(1, this.#turns.running);
    pace.addStep(step_ms / weight / together);
    turn.progress((steps - step) * weight);
    onEvent({
      kind: 'progress',
      index,
      step,
      steps,
      step_ms: Math.round(step_ms * 10) / 10,
      remaining_s: seconds(pace.pictureMs((steps - step) * weight * together)),
    });
  }
}

/** A picture of a request. */
interface Asked {
  readonly body: ImageBody;
  readonly index: number;
  readonly seed: number;
  readonly signal: AbortSignal;
  readonly onEvent: (event: ImageEvent) => void;
}

interface QueuedWork extends Asked {
  readonly engine: Engine;
  readonly client: string;
}

interface Work extends Asked {
  readonly pipeline: Pipeline;
  readonly turn: Turn;
  /** Of a step, against one of the default size. */
  readonly weight: number;
}
