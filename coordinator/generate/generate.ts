/** A config and a prompt in, a picture made by all of the config's workers together out. */
import { writeFile } from 'node:fs/promises';
import { TandemError } from '../../common/errors.js';
import type { Workers } from '../cluster/index.js';
import type { ClusterConfig } from '../config/index.js';
import type { Hooks } from '../hooks.js';
import { type HostedNetwork, planHosting, remotesOf } from '../hosting/index.js';
import { prepareMesh, withMesh } from '../mesh/index.js';
import { checkOutFile } from '../out-file.js';
import {
  createPipeline,
  encodePicture,
  formatOfFile,
  type GeneratedImage,
  type ImageRequest,
  type Timings,
} from '../pipeline/index.js';
import { checkWireError } from '../verify/wire-error.js';
import { followPlan } from './follow-plan.js';
import { type Picture, type PictureOptions, planPicture } from './picture.js';

export interface GenerateRequest extends Hooks, PictureOptions {
  readonly config: ClusterConfig;
  readonly prompt: string;
  readonly negativePrompt?: string;
  /** The same seed gives the same picture on any number of workers; 0 where absent. */
  readonly seed?: number;
  /** Where the picture goes; its extension says the format: `.png`, `.jpg`, `.jpeg` or `.webp`. */
  readonly out: string;
}

export interface WorkerReport {
  readonly rank: number;
  readonly pid: number;
  readonly weight_bytes: number;
  readonly peak_private_bytes: number;
  /** Weights and other files in memory. */
  readonly mapped_bytes: number;
}

/** What `tandem generate` says; the JSON keys are a contract. */
export interface GenerateReport {
  /** The picture, absolute. */
  readonly file: string;
  readonly width: number;
  readonly height: number;
  readonly prompt: string;
  readonly negative_prompt: string;
  readonly seed: number;
  readonly num_inference_steps: number;
  readonly guidance_scale: number;
  readonly scheduler: string;
  readonly world_size: number;
  /** ms; `partition_ms` is 0 where prepared shards were reused */
  readonly timings: Timings & {
    readonly partition_ms: number;
    readonly load_ms: number;
    /** Encoding and writing the picture's file. */
    readonly png_ms: number;
    readonly total_ms: number;
  };
  readonly workers: readonly WorkerReport[];
  /** What was done differently from what was asked. */
  readonly warnings: readonly string[];
}

/** As the server has it: a prompt without a word asks for no picture in particular. */
const checkPrompt = (prompt: string): void => {
  if (prompt.trim() !== '') return;
  throw new TandemError('REQUEST_INVALID', 'Expected a prompt that says what the picture should show; found none.');
};

export const reportWorkers = (cluster: Workers): readonly WorkerReport[] =>
  cluster.workers.map(({ rank, pid, weight_bytes, memory }) => ({
    rank,
    pid,
    weight_bytes,
    peak_private_bytes: memory.peak_private_bytes,
    mapped_bytes: memory.mapped_bytes,
  }));

interface Rendered {
  readonly result: GeneratedImage;
  readonly scheduler: string;
}

const render = async (
  picture: Picture,
  image: ImageRequest,
  cluster: Workers,
  hosted: readonly HostedNetwork[],
  { onProgress }: Hooks,
): Promise<Rendered> => {
  const pipeline = await createPipeline({
    directory: picture.directory,
    denoiser: cluster.network(),
    networks: remotesOf(hosted, (name) => cluster.network(name)),
    size: picture,
    ...(picture.scheduler === undefined ? {} : { scheduler: picture.scheduler }),
  });
  try {
    onProgress?.('denoise', 0, image.numInferenceSteps);
    return { result: await pipeline.generateImage(image), scheduler: pipeline.scheduler };
  } finally {
    await pipeline.close();
  }
};

const toImageRequest = (request: GenerateRequest, picture: Picture): ImageRequest => ({
  prompt: request.prompt,
  ...(request.negativePrompt === undefined ? {} : { negativePrompt: request.negativePrompt }),
  seed: request.seed ?? 0,
  numInferenceSteps: picture.numInferenceSteps,
  guidanceScale: picture.guidanceScale,
  width: picture.width,
  height: picture.height,
  onStep: ({ step, steps }) => request.onProgress?.('denoise', step, steps),
  ...(request.signal ? { signal: request.signal } : {}),
});

const savePicture = async (
  file: string,
  image: ImageRequest,
  { result, scheduler }: Rendered,
  model: string,
): Promise<number> => {
  const start = performance.now();
  const { prompt, negativePrompt, seed, numInferenceSteps, guidanceScale } = image;
  const negative = negativePrompt === undefined ? {} : { negativePrompt };
  const parameters = { prompt, ...negative, seed, numInferenceSteps, guidanceScale, scheduler, model };
  await writeFile(file, await encodePicture(result.image, formatOfFile(file), { parameters }));
  return performance.now() - start;
};

/**
 * Makes one picture: prepares shards where none fit, starts the workers, denoises with all of them, writes the file, ends
 * the workers.
 * @throws TandemError of any of these stages; no process and no half-written shard directory is left behind
 */
export const generate = async (request: GenerateRequest): Promise<GenerateReport> => {
  const start = performance.now();
  checkPrompt(request.prompt);
  formatOfFile(request.out);
  const file = await checkOutFile(request.out);
  const config = await followPlan(request.config, (one) => planPicture(one, request), request);
  // Groups of devices may take the passes of guidance one at a time.
  const picture = await planPicture(config, request);
  const image = toImageRequest(request, picture);
  const hosted = await planHosting(config, picture);
  await checkWireError(config, picture, request);
  const ready = await prepareMesh(config, { ...picture, networks: hosted }, request);
  return withMesh(ready, config, request, async ({ workers: cluster, loadMs }) => {
    const rendered = await render(picture, image, cluster, hosted, request);
    const pngMs = await savePicture(file, image, rendered, picture.model.name);
    return {
      file,
      width: picture.width,
      height: picture.height,
      prompt: image.prompt,
      negative_prompt: image.negativePrompt ?? '',
      seed: image.seed,
      num_inference_steps: image.numInferenceSteps,
      guidance_scale: image.guidanceScale,
      scheduler: rendered.scheduler,
      world_size: config.devices.length,
      timings: {
        partition_ms: ready.partitionMs,
        load_ms: loadMs,
        ...rendered.result.timings,
        png_ms: pngMs,
        total_ms: performance.now() - start,
      },
      workers: reportWorkers(cluster),
      warnings: rendered.result.warnings,
    };
  });
};
