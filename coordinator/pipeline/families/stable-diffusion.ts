/** Stable Diffusion 1.x and 2.x, and the latent consistency models made of them: one CLIP encoder, cross-attention. */
import { encoderOf, ownLength } from './encoding.js';
import { CLASSIFIER_FREE, type Family, identity } from './family.js';

export const stableDiffusion: Family = {
  name: 'Stable Diffusion',
  classNames: ['StableDiffusionPipeline'],
  denoiser: 'unet',
  encoders: [{ folder: 'text_encoder', tokenizer: 'tokenizer', outputs: { hidden: 'last' }, length: 'own' }],
  inputs: ['sample', 'timestep', 'embeddings'],
  optionalInputs: ['guidanceEmbedding'],
  layout: 'planes',
  patch: 1,
  guidance: CLASSIFIER_FREE,
  defaults: { numInferenceSteps: 50, guidanceScale: 7.5 },
  sequenceLength: identity,
  schedule: ({ numInferenceSteps, imageTokens }) => ({ numInferenceSteps, imageSequenceLength: imageTokens }),
  timestep: identity,
  sign: 1,
  async encode(prompt, context) {
    const encoder = encoderOf(context, 'text_encoder');
    const { hidden, truncated } = await encoder.encode(prompt, { length: ownLength(encoder) });
    return { values: { embeddings: hidden.data }, truncated };
  },
};

export const latentConsistency: Family = {
  ...stableDiffusion,
  name: 'Latent Consistency',
  classNames: ['LatentConsistencyModelPipeline'],
  defaults: { numInferenceSteps: 4, guidanceScale: 8.5 },
};
