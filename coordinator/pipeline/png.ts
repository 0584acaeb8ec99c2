/** The picture as a PNG file, with the request that made it inside. */
import { encode } from 'fast-png';
import type { ImageRequest } from './image-request.js';
import type { RgbImage } from './vae-decoder.js';

/** What a PNG says of its making. */
export interface ImageParameters
  extends Pick<ImageRequest, 'prompt' | 'negativePrompt' | 'seed' | 'numInferenceSteps' | 'guidanceScale'> {
  readonly scheduler: string;
  /** Name of the model; left out where absent. */
  readonly model?: string;
}

/** PNG's tEXt chunks are Latin-1 (PNG specification, 11.3.3.2); other characters are written as JSON writes them. */
const toLatin1 = (text: string): string =>
  text.replace(/[^\n\x20-\x7e\xa0-\xff]/g, (unit) => `\\u${unit.charCodeAt(0).toString(16).padStart(4, '0')}`);

/**
 * The parameters in the form that image browsers for Stable Diffusion read: the prompt, the negative prompt, and a line of
 * `name: value` pairs.
 */
export const describeParameters = (parameters: ImageParameters, image: RgbImage): string => {
  const pairs = [
    `Steps: ${parameters.numInferenceSteps}`,
    `Sampler: ${parameters.scheduler}`,
    `CFG scale: ${parameters.guidanceScale}`,
    `Seed: ${parameters.seed}`,
    `Size: ${image.width}x${image.height}`,
    ...(parameters.model === undefined ? [] : [`Model: ${parameters.model}`]),
  ];
  const negative = parameters.negativePrompt ? [`Negative prompt: ${parameters.negativePrompt}`] : [];
  return [parameters.prompt, ...negative, pairs.join(', ')].join('\n');
};

/**
 * Encodes a picture as an 8-bit RGB PNG.
 * @param parameters written to the `parameters` text chunk; characters outside Latin-1 are escaped
 * @returns the bytes of the file; equal pictures and parameters give equal bytes
 */
export const encodePng = (image: RgbImage, parameters?: ImageParameters): Uint8Array =>
  encode({
    width: image.width,
    height: image.height,
    data: image.data,
    channels: 3,
    depth: 8,
    ...(parameters === undefined ? {} : { text: { parameters: toLatin1(describeParameters(parameters, image)) } }),
  });
