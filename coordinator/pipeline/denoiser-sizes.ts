/**
 * The sizes that a denoiser is opened for. Exporters leave some dims of its inputs symbolic and name them as they like, so
 * dims are recognised by the input that they are part of and by their position.
 */
import type { TensorMetadata } from '../../partition/onnxruntime.js';
import { elementCount, type TensorSpec } from '../../partition/tensor.js';
import { modelInputsError, requestError } from './errors.js';
import type { ModelDirectory } from './model-directory.js';

/** Fixed sizes of one profile of a denoiser; lengths are in latents and tokens, not pixels. */
export interface DenoiserSize {
  /** 2 runs the unconditional and the conditional half of guidance in one call, 1 in two. */
  readonly batch: number;
  readonly channels: number;
  readonly height: number;
  readonly width: number;
  readonly sequenceLength: number;
}

/** The latents, by UNets' and by transformers' name. */
export const SAMPLE_INPUTS: readonly string[] = ['sample', 'hidden_states'];
export const TIMESTEP_INPUT = 'timestep';
export const EMBEDDINGS_INPUT = 'encoder_hidden_states';
/** Guidance embedding of models distilled from a guided one (LCM). */
export const GUIDANCE_INPUT = 'timestep_cond';

/** Sizes of an input's axes, in order; undefined where an axis must be fixed in the model already. */
const axesOf = (name: string, size: DenoiserSize): readonly (number | undefined)[] => {
  if (SAMPLE_INPUTS.includes(name)) return [size.batch, size.channels, size.height, size.width];
  // One timestep is broadcast over the batch by every exporter's graph.
  if (name === TIMESTEP_INPUT) return [1];
  if (name === EMBEDDINGS_INPUT) return [size.batch, size.sequenceLength, undefined];
  return [size.batch];
};

const isSymbolic = (dim: number | string): dim is string => typeof dim === 'string' || dim < 0;

/**
 * Values for a model's symbolic dims, by name: what a partition profile or a session with free dims needs.
 * @throws TandemError `MODEL_INPUTS` when a dim is in a place whose size is not known
 */
export const symbolicSizes = (inputs: readonly TensorMetadata[], size: DenoiserSize): Record<string, number> => {
  const sizes: Record<string, number> = {};
  const problems: string[] = [];
  // The timestep comes last: where its one dim shares the batch's name, the batch has already set it.
  const ordered = [...inputs].sort((a, b) => Number(a.name === TIMESTEP_INPUT) - Number(b.name === TIMESTEP_INPUT));
  for (const { name, shape } of ordered)
    shape.forEach((dim, axis) => {
      if (!isSymbolic(dim) || Object.hasOwn(sizes, dim)) return;
      const value = axesOf(name, size)[axis];
      if (value === undefined)
        problems.push(
          `Axis ${axis} ("${dim}") of the input "${name}" has no known size; export the model with it fixed.`,
        );
      else sizes[dim] = value;
    });
  if (problems.length > 0) throw modelInputsError('denoiser', problems);
  return sizes;
};

/** A model's tensors with every symbolic dim fixed. */
export const fixedSpecs = (
  tensors: readonly TensorMetadata[],
  sizes: Readonly<Record<string, number>>,
): readonly TensorSpec[] =>
  tensors.map(({ name, dtype, shape }) => ({
    name,
    dtype,
    shape: shape.map((dim) => {
      if (!isSymbolic(dim)) return dim;
      const size = sizes[dim];
      if (size === undefined) throw modelInputsError('denoiser', [`The dim "${dim}" of "${name}" has no size.`]);
      return size;
    }),
  }));

/** What decides the size of the denoiser's inputs, in pixels. */
export interface ImageSize {
  readonly width: number;
  readonly height: number;
  readonly guidanceScale: number;
}

const checkImageSize = (image: ImageSize, downscale: number): void => {
  const problems = (['width', 'height'] as const)
    .filter((side) => !(Number.isInteger(image[side] / downscale) && image[side] > 0))
    .map((side) => `Expected the ${side} to be a positive multiple of ${downscale} pixels, found ${image[side]}.`);
  if (problems.length > 0) throw requestError(problems.join(' '), problems);
};

/**
 * The sizes to open a model's denoiser for, with guidance in one call where there is guidance.
 * @throws TandemError `REQUEST_INVALID` when the image cannot be divided into latents
 */
export const denoiserSizeFor = (model: ModelDirectory, image: ImageSize): DenoiserSize => {
  const { channels, downscale } = model.latents;
  checkImageSize(image, downscale);
  return {
    batch: image.guidanceScale > 1 && model.timeCondProjDim === undefined ? 2 : 1,
    channels,
    height: image.height / downscale,
    width: image.width / downscale,
    sequenceLength: model.sequenceLength,
  };
};

/** An output with every symbolic dim fixed: its dims are those of the sample. */
export const outputSpec = (output: TensorMetadata, size: DenoiserSize): TensorSpec => {
  const fallback = [size.batch, size.channels, size.height, size.width];
  const shape = output.shape.map((dim, axis) => (isSymbolic(dim) ? (fallback[axis] ?? 1) : dim));
  return { name: output.name, dtype: output.dtype, shape };
};

/** Number of elements of one image in a batched tensor. */
export const elementsPerImage = (spec: TensorSpec): number => elementCount(spec.shape.slice(1));
