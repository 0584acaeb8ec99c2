/**
 * Stable Diffusion XL: the penultimate states of two CLIP encoders side by side, the second one's pooled projection, and the
 * picture's size as six numbers (arXiv 2307.01952, section 2.2).
 */
import { besides, encoderOf, ownLength } from './encoding.js';
import { CLASSIFIER_FREE, type Family, identity } from './family.js';

export const stableDiffusionXl: Family = {
  name: 'Stable Diffusion XL',
  classNames: ['StableDiffusionXLPipeline'],
  denoiser: 'unet',
  encoders: [
    { folder: 'text_encoder', tokenizer: 'tokenizer', outputs: { hidden: 'penultimate' }, length: 'own' },
    {
      folder: 'text_encoder_2',
      tokenizer: 'tokenizer_2',
      outputs: { hidden: 'penultimate', pooled: 'text_embeds' },
      length: 'own',
    },
  ],
  inputs: ['sample', 'timestep', 'embeddings', 'pooled', 'timeIds'],
  optionalInputs: ['guidanceEmbedding'],
  layout: 'planes',
  patch: 1,
  guidance: CLASSIFIER_FREE,
  zeroUnconditional: true,
  defaults: { numInferenceSteps: 50, guidanceScale: 5, pixels: 1024 },
  sequenceLength: identity,
  schedule: ({ numInferenceSteps, imageTokens }) => ({ numInferenceSteps, imageSequenceLength: imageTokens }),
  timestep: identity,
  sign: 1,
  async encode(prompt, context) {
    const first = encoderOf(context, 'text_encoder');
    const second = encoderOf(context, 'text_encoder_2');
    const left = await first.encode(prompt, { length: ownLength(first) });
    const right = await second.encode(prompt, { length: ownLength(second) });
    return {
      values: { embeddings: besides(left.hidden, right.hidden).data, pooled: right.pooled },
      truncated: left.truncated,
    };
  },
};
