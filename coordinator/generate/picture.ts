/** From a config and a wish for a picture to the sizes that the denoiser is opened with. */
import { TandemError } from '../../common/errors.js';
import type { TensorMetadata } from '../../common/onnxruntime.js';
import { runsPassesApart } from '../../partition/mesh/shape.js';
import type { ClusterConfig } from '../config/index.js';
import { type PlannedModel, planHosting } from '../hosting/index.js';
import {
  type DenoiserSize,
  denoiserSizeFor,
  fixedSampleShape,
  type ModelDirectory,
  readModelDirectory,
  type SchedulerName,
  sampleShape,
  symbolicSizes,
} from '../pipeline/index.js';
import { type Dims, requireDims } from '../shards/dims.js';
import { findDenoiserModel } from '../shards/model.js';
import { modelFacts } from '../shards/model-facts.js';
import type { OpenedModel } from '../shards/request.js';

export type { PlannedModel };

/** What is asked of a picture beyond the config's defaults. */
export interface PictureOptions {
  /** pixels */
  readonly width?: number;
  readonly height?: number;
  readonly guidanceScale?: number;
  readonly numInferenceSteps?: number;
  readonly scheduler?: SchedulerName;
  /** Sizes of symbolic dims by name; they win over what the picture needs. */
  readonly dims?: Dims;
}

/** A picture's sizes, and the denoiser's that follow from them. */
export interface Picture extends OpenedModel {
  /** The diffusers-layout directory, absolute. */
  readonly directory: string;
  /** pixels */
  readonly width: number;
  readonly height: number;
  readonly guidanceScale: number;
  readonly numInferenceSteps: number;
  /** Pixels of which the sides of any picture of this model must be multiples. */
  readonly sizeMultiple: number;
  readonly scheduler?: SchedulerName;
}

/** Pixels of a model that does not say what it was trained for: Stable Diffusion 1's. */
const FALLBACK_SIZE = { width: 512, height: 512 };

/** A model exported for one size can make no other picture; better said before its weights are split. */
const checkFixedSizes = (inputs: readonly TensorMetadata[], size: DenoiserSize, downscale: number): void => {
  const found = fixedSampleShape(inputs, size);
  if (found === undefined) return;
  const pixels = `${size.width * downscale}x${size.height * downscale}`;
  const message = `Expected a picture of the size for which the model was exported, latents of [${found.join(', ')}]; found ${pixels} pixels, which are latents of [${sampleShape(size).join(', ')}].`;
  throw new TandemError('REQUEST_INVALID', message);
};

/** What a picture is in pixels, and what its denoiser is opened with. */
type Sized = Pick<Picture, 'width' | 'height' | 'guidanceScale' | 'numInferenceSteps' | 'dims'>;

const sizePicture = (
  directory: ModelDirectory,
  inputs: readonly TensorMetadata[],
  options: PictureOptions,
  { defaults, mesh }: Pick<ClusterConfig, 'defaults' | 'mesh'>,
): Sized => {
  const fallback = directory.defaultSize ?? FALLBACK_SIZE;
  const width = options.width ?? defaults.width ?? fallback.width;
  const height = options.height ?? defaults.height ?? fallback.height;
  const own = directory.family.defaults;
  const guidanceScale = options.guidanceScale ?? defaults.guidanceScale ?? own.guidanceScale;
  const numInferenceSteps = options.numInferenceSteps ?? defaults.numInferenceSteps ?? own.numInferenceSteps;
  const whole = denoiserSizeFor(directory, { width, height, guidanceScale });
  // Groups that compute one pass each, or pass it on, are given one at a time.
  const size = mesh !== undefined && runsPassesApart(mesh) ? { ...whole, batch: 1 } : whole;
  checkFixedSizes(inputs, size, directory.latents.downscale);
  const dims = { ...symbolicSizes(inputs, size), ...options.dims };
  return { width, height, guidanceScale, numInferenceSteps, dims };
};

/**
 * The sizes of a model's default picture, for whoever makes none of it.
 * @throws TandemError `MODEL_DIRECTORY`, `MODEL_INPUTS` or `REQUEST_INVALID`
 */
export const pictureDims = async (
  directory: string,
  inputs: readonly TensorMetadata[],
  settings: Pick<ClusterConfig, 'defaults' | 'mesh'>,
): Promise<Sized> => sizePicture(await readModelDirectory(directory), inputs, {}, settings);

/**
 * Decides a picture's sizes and fixes the denoiser's dims to them: batch 2 where guidance takes two passes, latents
 * smaller than the picture by the VAE's scale, prompts of the tokenizer's length.
 * @throws TandemError `MODEL_DIRECTORY`, `MODEL_INPUTS`, `REQUEST_INVALID` or `DIMS_OPEN`
 */
export const planPicture = async (config: ClusterConfig, options: PictureOptions = {}): Promise<Picture> => {
  const model = findDenoiserModel(config.model);
  if (model.directory === undefined) {
    const message = `Expected the model of ${config.file} to be a diffusers-layout directory, whose text encoder and VAE make a picture of the latents; found the single file ${config.model}.`;
    throw new TandemError('MODEL_DIRECTORY', message);
  }
  const scheduler = options.scheduler ?? config.defaults.scheduler;
  const directory = await readModelDirectory(model.directory, scheduler);
  const { inputs } = await modelFacts(model.path, config.shards);
  const sized = sizePicture(directory, inputs, options, config);
  const dims = requireDims(inputs, sized.dims);
  const chosen = scheduler === undefined ? {} : { scheduler };
  const { sizeMultiple } = directory;
  return { model, directory: model.directory, ...sized, sizeMultiple, ...chosen, dims };
};

/**
 * What a config's denoiser is opened with: the sizes of its default picture, or for a single `.onnx` file the dims that
 * are named.
 * @throws TandemError as `planPicture` does
 */
export const planDenoiser = async (config: ClusterConfig, dims: Dims = {}): Promise<OpenedModel> => {
  const model = findDenoiserModel(config.model);
  if (model.directory !== undefined) return planPicture(config, { dims });
  const { inputs } = await modelFacts(model.path, config.shards);
  return { model, dims: requireDims(inputs, dims) };
};

/**
 * As `planDenoiser`, with the places of the networks beside the denoiser.
 * @throws TandemError also as `planHosting` does
 */
export const planModel = async (config: ClusterConfig, dims: Dims = {}): Promise<PlannedModel> => {
  if (findDenoiserModel(config.model).directory === undefined)
    return { ...(await planDenoiser(config, dims)), networks: [] };
  const picture = await planPicture(config, { dims });
  return { ...picture, networks: await planHosting(config, picture) };
};
