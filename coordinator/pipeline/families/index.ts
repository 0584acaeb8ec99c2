/** Every family that Tandem has, by the class that model_index.json names. */
import type { Family } from './family.js';
import { flux } from './flux.js';
import { latentConsistency, stableDiffusion } from './stable-diffusion.js';
import { stableDiffusion3 } from './stable-diffusion-3.js';
import { stableDiffusionXl } from './stable-diffusion-xl.js';
import { zImage } from './z-image.js';

export type { EncoderFolder, EncoderPart, Family } from './family.js';
export { ENCODER_FOLDERS } from './family.js';

export const FAMILIES: readonly Family[] = [
  stableDiffusion,
  latentConsistency,
  stableDiffusionXl,
  stableDiffusion3,
  flux,
  zImage,
];

/** Exporters put a prefix of their own before diffusers' class names. */
const EXPORTER_PREFIX = /^(ORT|Onnx)/;

/** The family of a pipeline's class; undefined for one that is not supported. */
export const familyOf = (className: string): Family | undefined => {
  const name = className.replace(EXPORTER_PREFIX, '');
  return FAMILIES.find(({ classNames }) => classNames.includes(name));
};

/** `StableDiffusionPipeline (Stable Diffusion), ...` */
export const supportedClasses = (): string =>
  FAMILIES.map(({ name, classNames }) => `${classNames.join(' and ')} (${name})`).join(', ');
