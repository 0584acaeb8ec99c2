/**
 * The pipeline's public functions, in the order of the work:
 *
 *     model-directory   files and configs of a model            schedulers/     timesteps, noise levels and steps
 *     families/         what sets SD, SDXL, SD3, FLUX, Z-Image   denoiser-*      inputs and sizes of any exporter's denoiser
 *                       apart, as data                           latent-layout   latents in planes or in patches
 *     tokenizer         prompt -> token ids                      local-denoiser  a whole denoiser in one session
 *     text-encoder      token ids -> prompt embeddings           session-*       ONNX Runtime off the main thread
 *     conditioning      prompts -> the denoiser's inputs         random          seed -> latents
 *     networks          the other networks, in the workers or here
 *     generate          from the request to the image, around the denoising-loop
 *     vae-decoder, png, picture-file  latents -> pixels -> file
 */
export {
  denoiserSizeFor,
  fixedSampleShape,
  type ImageSize,
  MAX_PIXELS,
  sizeProblems,
  symbolicSizes,
} from './denoiser-sizes.js';
export type { GeneratedImage, ImageRequest, StepProgress, Timings } from './image-request.js';
export { type KnownWords, readKnownWords } from './known-words.js';
export { type DenoiserSize, sampleShape } from './latent-layout.js';
export { type LocalDenoiser, type LocalDenoiserOptions, openLocalDenoiser } from './local-denoiser.js';
export { type ModelDirectory, readModelDirectory } from './model-directory.js';
export {
  type Declared,
  latentsFor,
  NETWORK_NAMES,
  type NetworkName,
  type NetworkSizes,
  networkFiles,
  type OutsideNetwork,
  openingOf,
  pictureSize,
  sequenceOf,
} from './networks.js';
export {
  type EncodeOptions,
  encodePicture,
  formatOfFile,
  MEDIA_TYPES,
  PICTURE_FORMATS,
  type PictureFormat,
} from './picture-file.js';
export {
  createPipeline,
  type Pipeline,
  type PipelineOptions,
} from './pipeline.js';

export type { ImageParameters } from './png.js';
export { SCHEDULER_NAMES, type SchedulerName } from './schedulers/registry.js';
export type { RgbImage } from './vae-decoder.js';
