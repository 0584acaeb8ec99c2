/**
 * The sizes that a denoiser is opened for. Exporters leave some dims of its inputs symbolic and name them as they like, so
 * dims are recognised by the input that they are part of and by their position.
 */
import type { TensorMetadata } from '../../common/onnxruntime.js';
import type { TensorSpec } from '../../common/tensor.js';
import { INPUTS, type InputRule, roleOf } from './denoiser-inputs.js';
import { modelInputsError, requestError } from './errors.js';
import { type DenoiserSize, sampleShape } from './latent-layout.js';
import type { ModelDirectory } from './model-directory.js';

/** Sizes of an input's axes, in order; undefined where an axis must be fixed in the model already. */
const axesOf = ({ name, shape }: TensorMetadata, size: DenoiserSize): readonly (number | undefined)[] => {
  const role = roleOf(name);
  if (role === undefined) return [size.batch];
  const rule: InputRule = INPUTS[role];
  return rule.axes(size, shape.length);
};

const isSymbolic = (dim: number | string): dim is string => typeof dim === 'string' || dim < 0;

/**
 * Values for the symbolic dims of any network, by name.
 * @param network for messages
 * @param axes an input's sizes; undefined where an axis must be fixed in the model already
 * @throws TandemError `MODEL_INPUTS` when a dim is in a place whose size is not known
 */
export const dimSizes = (
  network: string,
  inputs: readonly TensorMetadata[],
  axes: (input: TensorMetadata) => readonly (number | undefined)[],
): Record<string, number> => {
  const sizes: Record<string, number> = {};
  const problems: string[] = [];
  for (const input of inputs)
    input.shape.forEach((dim, axis) => {
      if (!isSymbolic(dim) || Object.hasOwn(sizes, dim)) return;
      const value = axes(input)[axis];
      if (value === undefined)
        problems.push(
          `Axis ${axis} ("${dim}") of the input "${input.name}" has no known size; export the model with it fixed.`,
        );
      else sizes[dim] = value;
    });
  if (problems.length > 0) throw modelInputsError(network, problems);
  return sizes;
};

/**
 * Values for a denoiser's symbolic dims, by name: what a partition profile or a session with free dims needs.
 * @throws TandemError `MODEL_INPUTS` when a dim is in a place whose size is not known
 */
export const symbolicSizes = (inputs: readonly TensorMetadata[], size: DenoiserSize): Record<string, number> => {
  // The timestep comes last: where its one dim shares the batch's name, the batch has already set it.
  const isTimestep = ({ name }: TensorMetadata): number => Number(roleOf(name) === 'timestep');
  const ordered = [...inputs].sort((a, b) => isTimestep(a) - isTimestep(b));
  return dimSizes('denoiser', ordered, (input) => axesOf(input, size));
};

/** Where a model's latents have a fixed size other than the wanted one: that input's shape, for a message. */
export const fixedSampleShape = (
  inputs: readonly TensorMetadata[],
  size: DenoiserSize,
): readonly (number | string)[] | undefined => {
  const sample = inputs.find(({ name }) => roleOf(name) === 'sample');
  const wanted = sampleShape(size);
  // The batch may differ: guidance then takes two calls.
  const fits = sample?.shape.every((dim, axis) => axis === 0 || isSymbolic(dim) || dim === wanted[axis]) ?? true;
  return fits ? undefined : sample?.shape;
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

/** Pixels of a side: with more, a number is a mistake. */
export const MAX_PIXELS = 16_384;

const sideProblem = (side: string, pixels: number, multiple: number): string | undefined => {
  if (pixels > MAX_PIXELS) return `${side} must be at most ${MAX_PIXELS}; found ${pixels}`;
  if (Number.isInteger(pixels / multiple) && pixels > 0) return undefined;
  const below = Math.floor(pixels / multiple) * multiple;
  const nearest = below > 0 ? `nearest are ${below} and ${below + multiple}` : `the smallest is ${multiple}`;
  return `${side} must be a multiple of ${multiple}; found ${pixels}, ${nearest}`;
};

/** What is wrong with a picture's size, for a model whose pictures have sides of such multiples. */
export const sizeProblems = (
  { width, height }: { readonly width: number; readonly height: number },
  multiple: number,
): readonly string[] =>
  [sideProblem('width', width, multiple), sideProblem('height', height, multiple)].filter(
    (problem) => problem !== undefined,
  );

const checkImageSize = (image: ImageSize, multiple: number): void => {
  const problems = sizeProblems(image, multiple);
  if (problems.length > 0)
    throw requestError(`The model cannot make a picture of this size: ${problems.join('; ')}.`, []);
};

/**
 * The sizes to open a model's denoiser for, with guidance in one call where there is guidance.
 * @throws TandemError `REQUEST_INVALID` when the image cannot be divided into latents
 */
export const denoiserSizeFor = (model: ModelDirectory, image: ImageSize): DenoiserSize => {
  const { channels, downscale } = model.latents;
  const { guidance, layout } = model.family;
  checkImageSize(image, model.sizeMultiple);
  const guided = guidance !== undefined && image.guidanceScale > guidance.above;
  return {
    batch: guided && model.timeCondProjDim === undefined ? 2 : 1,
    channels,
    height: image.height / downscale,
    width: image.width / downscale,
    sequenceLength: model.sequenceLength,
    layout,
  };
};

/** An output with every symbolic dim fixed: its dims are those of the sample. */
export const outputSpec = (output: TensorMetadata, size: DenoiserSize): TensorSpec => {
  const fallback = sampleShape(size);
  const shape = output.shape.map((dim, axis) => (isSymbolic(dim) ? (fallback[axis] ?? 1) : dim));
  return { name: output.name, dtype: output.dtype, shape };
};
