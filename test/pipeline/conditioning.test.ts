import { describe, expect, it } from 'vitest';
import type { TensorSpec } from '#tandem/common/tensor.js';
import { type Conditioning, condition } from '#tandem/coordinator/pipeline/conditioning.js';
import { bindDenoiser } from '#tandem/coordinator/pipeline/denoiser-binding.js';
import type { EncodeContext, Family } from '#tandem/coordinator/pipeline/families/family.js';
import { flux } from '#tandem/coordinator/pipeline/families/flux.js';
import { stableDiffusionXl } from '#tandem/coordinator/pipeline/families/stable-diffusion-xl.js';
import { zImage } from '#tandem/coordinator/pipeline/families/z-image.js';
import type { ImageRequest } from '#tandem/coordinator/pipeline/index.js';

const spec = (name: string, shape: readonly number[]): TensorSpec => ({ name, dtype: 'float32', shape });

/** A family whose prompts are as long as their embeddings are large: the text's length, everywhere. */
const withLengths = (family: Family): Family => ({
  ...family,
  encode: async (prompt, { embeddingShape: [sequence, width] }) => ({
    values: { embeddings: new Float32Array(sequence * width).fill(prompt.length), pooled: [prompt.length] },
    truncated: [],
  }),
});

const conditionFor = (
  family: Family,
  inputs: readonly TensorSpec[],
  image: Partial<ImageRequest>,
  zeroUnconditional = false,
): Promise<Conditioning> => {
  const [first] = inputs;
  const outputs = first === undefined ? [] : [{ ...first, name: 'out' }];
  const binding = bindDenoiser(
    { inputs, outputs, step: async () => ({}), stepEach: async () => [] },
    family,
    [1, 4, 6],
  );
  const context: EncodeContext = { encoders: new Map(), embeddingShape: binding.embeddingShape, zeroUnconditional };
  const asked = { prompt: 'four', seed: 0, numInferenceSteps: 1, guidanceScale: 5, ...image };
  return condition({ image: asked, width: 48, height: 32 }, withLengths(family), binding, context);
};

const XL = [
  spec('sample', [2, 1, 4, 6]),
  spec('timestep', []),
  spec('encoder_hidden_states', [2, 1, 2]),
  spec('text_embeds', [2, 1]),
  spec('time_ids', [2, 6]),
];

const FLUX = [
  spec('hidden_states', [1, 6, 4]),
  spec('timestep', [1]),
  spec('encoder_hidden_states', [1, 2, 2]),
  spec('pooled_projections', [1, 1]),
  spec('img_ids', [6, 3]),
  spec('txt_ids', [2, 3]),
];

const Z_IMAGE = [
  spec('hidden_states', [1, 1, 4, 6]),
  spec('timestep', [1]),
  spec('encoder_hidden_states', [1, 32, 2]),
  spec('encoder_attention_mask', [1, 32]),
];

describe('conditioning', () => {
  it('tells SDXL the size of the picture and the place of the crop, rows first', async () => {
    const { shared } = await conditionFor(stableDiffusionXl, XL, {});
    expect(shared).toEqual({ timeIds: [32, 48, 0, 0, 32, 48] });
  });

  it('has zeros for a negative prompt that was not given, but an empty one is encoded', async () => {
    const absent = await conditionFor(stableDiffusionXl, XL, {}, true);
    expect(absent.prompts[0]).toEqual({ embeddings: Float32Array.of(0, 0), pooled: Float32Array.of(0) });
    const given = await conditionFor(stableDiffusionXl, XL, { negativePrompt: 'no' }, true);
    expect(given.prompts[0]).toEqual({ embeddings: Float32Array.of(2, 2), pooled: [2] });
    expect(given.prompts[1]).toEqual({ embeddings: Float32Array.of(4, 4), pooled: [4] });
  });

  it('makes one pass at a scale of 1, and says that a negative prompt has no effect then', async () => {
    const { prompts, warnings, guidanceWeight } = await conditionFor(stableDiffusionXl, XL, {
      guidanceScale: 1,
      negativePrompt: 'no',
    });
    expect(prompts).toHaveLength(1);
    expect(guidanceWeight).toBeUndefined();
    expect(warnings).toEqual([expect.stringContaining('negative prompt has no effect')]);
  });

  it('guides Z-Image from 0 on, with one more than the scale', async () => {
    const off = await conditionFor(zImage, Z_IMAGE, { guidanceScale: 0 });
    expect([off.prompts.length, off.guidanceWeight]).toEqual([1, undefined]);
    const half = await conditionFor(zImage, Z_IMAGE, { guidanceScale: 0.5 });
    expect([half.prompts.length, half.guidanceWeight]).toEqual([2, 1.5]);
  });

  it('gives FLUX the scale as an input, and the row and column of every patch', async () => {
    const { shared, prompts } = await conditionFor(flux, [...FLUX, spec('guidance', [1])], { guidanceScale: 3.5 });
    expect(prompts).toHaveLength(1);
    expect(shared).toEqual({
      guidance: [3.5],
      imageIds: [0, 0, 0, 0, 0, 1, 0, 0, 2, 0, 1, 0, 0, 1, 1, 0, 1, 2],
      textIds: [0, 0, 0, 0, 0, 0],
    });
  });

  it('says that a scale has no effect on a model that takes none', async () => {
    expect((await conditionFor(flux, FLUX, { guidanceScale: 3.5 })).warnings).toEqual([]);
    expect((await conditionFor(flux, FLUX, { guidanceScale: 6 })).warnings).toEqual([
      'This model takes no guidance scale: 6 has no effect.',
    ]);
  });
});
