/**
 * Z-Image and Z-Image-Turbo: the prompt as a chat message through Qwen3, whose states before the last layer are the
 * embeddings, with a mask, for captions have any length (`models/export/z_image.py` exports such a denoiser).
 */
import { linspace } from '../schedulers/float32.js';
import { encoderOf, padded } from './encoding.js';
import type { Family } from './family.js';

const TRAIN_TIMESTEPS = 1000;
const SEQUENCE_LENGTH = 512;

/** A user's message and the beginning of the answer, as Qwen3's chat template writes them. */
const asMessage = (prompt: string): string => `<|im_start|>user\n${prompt}<|im_end|>\n<|im_start|>assistant\n`;

export const zImage: Family = {
  name: 'Z-Image',
  classNames: ['ZImagePipeline'],
  denoiser: 'transformer',
  encoders: [
    {
      folder: 'text_encoder',
      tokenizer: 'tokenizer',
      outputs: { hidden: 'penultimate' },
      length: 'sequence',
      tokens: ['<|im_start|>', '<|im_end|>'],
    },
  ],
  inputs: ['sample', 'timestep', 'embeddings', 'attentionMask'],
  optionalInputs: [],
  layout: 'planes',
  patch: 2,
  // Its scale is 0 for none: the prediction moves on from the conditional one.
  guidance: { above: 0, weight: (scale) => scale + 1 },
  // Turbo's. The undistilled model wants 50 steps and a scale of 5, which diffusers has as its defaults.
  defaults: { numInferenceSteps: 8, guidanceScale: 0, pixels: 1024 },
  // The network pads a caption to a multiple of this, for which there must be room.
  sequenceMultiple: 32,
  sequenceLength: () => SEQUENCE_LENGTH,
  schedule: ({ numInferenceSteps, imageTokens }) => ({
    numInferenceSteps,
    imageSequenceLength: imageTokens,
    sigmas: linspace(1, 1 / numInferenceSteps, numInferenceSteps),
  }),
  timestep: (timestep) => (TRAIN_TIMESTEPS - timestep) / TRAIN_TIMESTEPS,
  sign: -1,
  async encode(prompt, context) {
    const [length] = context.embeddingShape;
    const encoder = encoderOf(context, 'text_encoder');
    const { hidden, truncated } = await encoder.encode(asMessage(prompt), { length, causal: true });
    const [tokens] = hidden.shape;
    return {
      values: {
        embeddings: padded(hidden, context.embeddingShape).data,
        attentionMask: Array.from({ length }, (_, index) => (index < tokens ? 1 : 0)),
      },
      truncated,
    };
  },
};
