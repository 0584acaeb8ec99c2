/**
 * Stable Diffusion 3 and 3.5: two CLIP encoders side by side, widened with zeros to T5's width, then T5's own tokens; the two
 * pooled projections one after the other (arXiv 2403.03206, section 4 and figure 2). A model without T5 has zeros in its place.
 */

import { modelInputsError } from '../errors.js';
import type { HiddenStates } from '../text-encoder.js';
import { besides, encoderOf, joined, ownLength, padded } from './encoding.js';
import { CLASSIFIER_FREE, type EncodeContext, type Family, identity } from './family.js';

const T5_LENGTH = 256;

/** A token of the prompt and its end. */
const LEAST_T5_LENGTH = 2;

const encodeT5 = async (prompt: string, context: EncodeContext, clipLength: number): Promise<HiddenStates> => {
  const encoder = context.encoders.get('text_encoder_3');
  const [sequence, width] = context.embeddingShape;
  const length = sequence - clipLength;
  if (length < (encoder === undefined ? 0 : LEAST_T5_LENGTH))
    throw modelInputsError('denoiser', [
      `It was opened for prompts of ${sequence} tokens, of which CLIP takes ${clipLength}; open it for ${clipLength + T5_LENGTH}.`,
    ]);
  if (encoder === undefined) return { data: new Float32Array(length * width), shape: [length, width] };
  return (await encoder.encode(prompt, { length })).hidden;
};

export const stableDiffusion3: Family = {
  name: 'Stable Diffusion 3',
  classNames: ['StableDiffusion3Pipeline'],
  denoiser: 'transformer',
  encoders: [
    {
      folder: 'text_encoder',
      tokenizer: 'tokenizer',
      outputs: { hidden: 'penultimate', pooled: 'text_embeds' },
      length: 'own',
    },
    {
      folder: 'text_encoder_2',
      tokenizer: 'tokenizer_2',
      outputs: { hidden: 'penultimate', pooled: 'text_embeds' },
      length: 'own',
    },
    { folder: 'text_encoder_3', tokenizer: 'tokenizer_3', outputs: { hidden: 'last' }, length: 'rest', optional: true },
  ],
  inputs: ['sample', 'timestep', 'embeddings', 'pooled'],
  optionalInputs: [],
  layout: 'planes',
  patch: 2,
  guidance: CLASSIFIER_FREE,
  defaults: { numInferenceSteps: 28, guidanceScale: 7, pixels: 1024 },
  sequenceLength: (tokenizerLength) => tokenizerLength + T5_LENGTH,
  schedule: ({ numInferenceSteps, imageTokens }) => ({ numInferenceSteps, imageSequenceLength: imageTokens }),
  timestep: identity,
  sign: 1,
  async encode(prompt, context) {
    const [, width] = context.embeddingShape;
    const first = encoderOf(context, 'text_encoder');
    const second = encoderOf(context, 'text_encoder_2');
    const length = ownLength(first);
    const left = await first.encode(prompt, { length });
    const right = await second.encode(prompt, { length });
    const t5 = await encodeT5(prompt, context, length);
    const clip = padded(besides(left.hidden, right.hidden), [length, width]);
    return {
      values: { embeddings: joined(clip.data, t5.data), pooled: joined(left.pooled, right.pooled) },
      // What CLIP leaves out, T5 still reads.
      truncated: context.encoders.has('text_encoder_3') ? [] : left.truncated,
    };
  },
};
