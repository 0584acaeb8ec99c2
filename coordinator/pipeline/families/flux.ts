/**
 * FLUX.1: T5's states as the sequence, CLIP's pooled vector, latents in patches with their places, and the guidance scale as an
 * input where the model was distilled with it (dev) or none (schnell).
 */
import { linspace } from '../schedulers/float32.js';
import { encoderOf, ownLength } from './encoding.js';
import type { Family } from './family.js';

const TRAIN_TIMESTEPS = 1000;

export const flux: Family = {
  name: 'FLUX',
  classNames: ['FluxPipeline'],
  denoiser: 'transformer',
  encoders: [
    { folder: 'text_encoder', tokenizer: 'tokenizer', outputs: { pooled: 'pooler_output' }, length: 'own' },
    { folder: 'text_encoder_2', tokenizer: 'tokenizer_2', outputs: { hidden: 'last' }, length: 'sequence' },
  ],
  inputs: ['sample', 'timestep', 'embeddings', 'pooled', 'imageIds', 'textIds'],
  optionalInputs: ['guidance'],
  layout: 'patches',
  patch: 2,
  defaults: { numInferenceSteps: 28, guidanceScale: 3.5, pixels: 1024 },
  sequenceLength: () => 512,
  schedule: ({ numInferenceSteps, imageTokens }) => ({
    numInferenceSteps,
    imageSequenceLength: imageTokens,
    sigmas: linspace(1, 1 / numInferenceSteps, numInferenceSteps),
  }),
  timestep: (timestep) => timestep / TRAIN_TIMESTEPS,
  sign: 1,
  async encode(prompt, context) {
    const [length] = context.embeddingShape;
    const clip = encoderOf(context, 'text_encoder');
    const { pooled } = await clip.encode(prompt, { length: ownLength(clip) });
    const { hidden, truncated } = await encoderOf(context, 'text_encoder_2').encode(prompt, { length });
    return { values: { embeddings: hidden.data, pooled }, truncated };
  },
};
