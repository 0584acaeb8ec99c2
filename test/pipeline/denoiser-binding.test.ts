import { describe, expect, it } from 'vitest';
import type { DType, HostTensor, TensorSpec } from '#tandem/common/tensor.js';
import { type Denoiser, oneAfterAnother } from '#tandem/coordinator/denoiser.js';
import { bindDenoiser } from '#tandem/coordinator/pipeline/denoiser-binding.js';
import { symbolicSizes } from '#tandem/coordinator/pipeline/denoiser-sizes.js';
import { flux } from '#tandem/coordinator/pipeline/families/flux.js';
import { stableDiffusion } from '#tandem/coordinator/pipeline/families/stable-diffusion.js';
import { zImage } from '#tandem/coordinator/pipeline/families/z-image.js';
import { applyGuidance, guidanceEmbedding } from '#tandem/coordinator/pipeline/guidance.js';
import { toFloat32, toHostTensor } from '#tandem/coordinator/pipeline/host-tensor.js';
import { type DenoiserSize, fromLayout, toLayout } from '#tandem/coordinator/pipeline/latent-layout.js';

const spec = (name: string, shape: readonly number[], dtype: DType = 'float32'): TensorSpec => ({ name, dtype, shape });

const sample = spec('sample', [2, 1, 2, 2]);
const timestep = spec('timestep', [2]);
const embeddings = spec('encoder_hidden_states', [2, 1, 3]);

/** A denoiser in memory: its prediction is the sample, and it keeps what it was fed. */
const echo = (inputs: readonly TensorSpec[]) => {
  const [first = sample] = inputs;
  const calls: Readonly<Record<string, HostTensor>>[] = [];
  const step: Denoiser['step'] = async (feeds) => {
    calls.push(feeds);
    const fed = feeds[first.name];
    return fed === undefined ? {} : { out_sample: fed };
  };
  const outputs = [{ ...first, name: 'out_sample' }];
  const denoiser: Denoiser = { inputs, outputs, step, stepEach: oneAfterAnother(step) };
  return { denoiser, calls };
};

const values = (feeds: Readonly<Record<string, HostTensor>> | undefined, name: string): number[] => {
  const tensor = feeds?.[name];
  return tensor === undefined ? [] : [...toFloat32(tensor)];
};

describe('a denoiser', () => {
  it('of another family is refused with every input that is not known', () => {
    const sdxl = [
      sample,
      timestep,
      embeddings,
      spec('text_embeds', [2, 4]),
      spec('time_ids', [2, 6]),
      spec('mystery', [1]),
    ];
    expect(() => bindDenoiser(echo(sdxl).denoiser, stableDiffusion)).toThrow(
      /"text_embeds", which Stable Diffusion models do not have.*"time_ids".*"mystery", which/,
    );
  });

  it('without its usual inputs is refused with all that is missing', () => {
    expect(() => bindDenoiser(echo([sample]).denoiser, stableDiffusion)).toThrow(
      /no input called timestep.*no input called encoder_hidden_states/,
    );
  });

  it('for a batch that guidance cannot use is refused', () => {
    const three = [spec('sample', [3, 1, 2, 2]), timestep, spec('encoder_hidden_states', [3, 1, 3])];
    expect(() => bindDenoiser(echo(three).denoiser, stableDiffusion)).toThrow('opened for a batch of 3');
  });

  it('is fed the unconditional prompt first, in one call of batch 2', async () => {
    const { denoiser, calls } = echo([sample, timestep, embeddings]);
    const latents = Float32Array.of(1, 2, 3, 4);
    const predictions = await bindDenoiser(denoiser, stableDiffusion).predict({
      sample: latents,
      timestep: 12.5,
      prompts: [{ embeddings: Float32Array.of(0, 0, 0) }, { embeddings: Float32Array.of(1, 1, 1) }],
    });
    expect(calls).toHaveLength(1);
    expect(values(calls[0], 'encoder_hidden_states')).toEqual([0, 0, 0, 1, 1, 1]);
    expect(values(calls[0], 'timestep')).toEqual([12.5, 12.5]);
    expect(predictions).toEqual([latents, latents]);
  });

  it('in half precision with whole timesteps is fed in its own types', async () => {
    const half = [
      spec('hidden_states', [1, 1, 2, 2], 'float16'),
      spec('timestep', [], 'int64'),
      spec('encoder_hidden_states', [1, 1, 3], 'float16'),
    ];
    const { denoiser, calls } = echo(half);
    const binding = bindDenoiser(denoiser, stableDiffusion);
    const [prediction] = await binding.predict({
      sample: Float32Array.of(0.1, 1, -2, 65504),
      timestep: 12.6,
      prompts: [{ embeddings: Float32Array.of(1, 2, 3) }],
    });
    expect(binding.wholeTimesteps).toBe(true);
    expect(calls[0]?.timestep).toEqual({ dtype: 'int64', shape: [], data: Uint8Array.of(13, 0, 0, 0, 0, 0, 0, 0) });
    expect([...(prediction ?? [])]).toEqual([0.0999755859375, 1, -2, 65504]);
  });
});

describe('a denoiser of packed latents', () => {
  const packed = [
    spec('hidden_states', [1, 2, 4]),
    timestep,
    spec('encoder_hidden_states', [1, 1, 3]),
    spec('pooled_projections', [1, 2]),
    spec('img_ids', [2, 3]),
    spec('txt_ids', [1, 3]),
  ].map((input) => (input.name === 'timestep' ? spec('timestep', [1]) : input));

  it('is fed patches and a timestep from 0 to 1, and its prediction comes back in planes', async () => {
    const { denoiser, calls } = echo(packed);
    const latents = Float32Array.of(1, 2, 3, 4, 5, 6, 7, 8);
    const [prediction] = await bindDenoiser(denoiser, flux, [1, 2, 4]).predict({
      sample: latents,
      timestep: 250,
      prompts: [{ embeddings: [1, 2, 3], pooled: [4, 5] }],
      shared: { imageIds: [0, 0, 0, 0, 0, 1], textIds: [0, 0, 0] },
    });
    expect(values(calls[0], 'hidden_states')).toEqual([1, 2, 5, 6, 3, 4, 7, 8]);
    expect(values(calls[0], 'timestep')).toEqual([0.25]);
    expect(values(calls[0], 'img_ids')).toEqual([0, 0, 0, 0, 0, 1]);
    expect(prediction).toEqual(latents);
  });

  it('is refused for a picture of another size, and without a size', () => {
    const { denoiser } = echo(packed);
    expect(() => bindDenoiser(denoiser, flux, [1, 4, 4])).toThrow(/\[1, 2, 4\]; expected \[1, 4, 4\]/);
    expect(() => bindDenoiser(denoiser, flux)).toThrow('open the pipeline with a size');
  });

  it('has latents that come back from patches as they went', () => {
    const latents = Float32Array.from({ length: 3 * 4 * 6 }, (_, index) => index);
    const patches = toLayout('patches', latents, [3, 4, 6]);
    expect(patches).not.toEqual(latents);
    expect(fromLayout('patches', patches, [3, 4, 6])).toEqual(latents);
  });
});

describe('a denoiser that predicts the way to the picture', () => {
  const inputs = [
    spec('hidden_states', [1, 1, 2, 2]),
    spec('timestep', [1]),
    spec('encoder_hidden_states', [1, 32, 1]),
    spec('encoder_attention_mask', [1, 32], 'int64'),
  ];

  it('is fed the time that has passed, and its prediction is turned round', async () => {
    const { denoiser, calls } = echo(inputs);
    const [prediction] = await bindDenoiser(denoiser, zImage).predict({
      sample: Float32Array.of(1, -2, 3, 4),
      timestep: 250,
      prompts: [{ embeddings: new Float32Array(32), attentionMask: Array<number>(32).fill(1) }],
    });
    expect(values(calls[0], 'timestep')).toEqual([0.75]);
    expect(prediction).toEqual(Float32Array.of(-1, 2, -3, -4));
  });

  it('is refused for a number of tokens that leaves no room for its padding', () => {
    const short = inputs.map((input) =>
      input.shape[1] === 32 ? { ...input, shape: [1, 40, ...input.shape.slice(2)] } : input,
    );
    expect(() => bindDenoiser(echo(short).denoiser, zImage)).toThrow(
      'prompts of 40 tokens; Z-Image models need a multiple of 32',
    );
  });

  it('is refused where it takes whole timesteps, as they lie between 0 and 1', () => {
    const whole = inputs.map((input) => (input.name === 'timestep' ? spec('timestep', [1], 'int64') : input));
    expect(() => bindDenoiser(echo(whole).denoiser, zImage)).toThrow('timesteps from 0 to 1');
  });
});

describe('the sizes of symbolic dims', () => {
  const size: DenoiserSize = { batch: 2, channels: 4, height: 8, width: 16, sequenceLength: 77, layout: 'planes' };

  it('are found by the place of a dim, whatever its name', () => {
    const inputs = [
      { name: 'sample', dtype: 'float32', shape: ['b', 4, 'latent rows', 'w'] },
      { name: 'timestep', dtype: 'int64', shape: ['steps'] },
      { name: 'encoder_hidden_states', dtype: 'float32', shape: ['b', 's', 768] },
    ] as const;
    expect(symbolicSizes(inputs, size)).toEqual({ b: 2, 'latent rows': 8, w: 16, s: 77, steps: 1 });
  });

  it('take the batch for a timestep per image', () => {
    const inputs = [
      { name: 'timestep', dtype: 'int64', shape: ['batch'] },
      { name: 'sample', dtype: 'float32', shape: ['batch', 4, 8, 8] },
    ] as const;
    expect(symbolicSizes(inputs, size)).toEqual({ batch: 2 });
  });

  it('count patches and tokens where the latents are packed', () => {
    const inputs = [
      { name: 'hidden_states', dtype: 'float32', shape: ['batch_size', 'packed_height_width', 16] },
      { name: 'txt_ids', dtype: 'float32', shape: ['sequence_length', 3] },
      { name: 'img_ids', dtype: 'float32', shape: ['packed_height_width', 3] },
    ] as const;
    expect(symbolicSizes(inputs, { ...size, batch: 1, layout: 'patches' })).toEqual({
      batch_size: 1,
      packed_height_width: 32,
      sequence_length: 77,
    });
  });

  it('that cannot be known are named', () => {
    const inputs = [{ name: 'encoder_hidden_states', dtype: 'float32', shape: [2, 77, 'features'] }] as const;
    expect(() => symbolicSizes(inputs, size)).toThrow('"features"');
  });
});

describe('guidance', () => {
  it('moves the prediction away from the unconditional one', () => {
    expect([...applyGuidance(Float32Array.of(1, 2), Float32Array.of(2, 0), 3)]).toEqual([4, -4]);
  });

  it('can be an embedding of sines, then cosines', () => {
    const embedding = guidanceEmbedding(1, 5);
    expect([...embedding]).toEqual([0, 0, 1, 1, 0]);
    expect(guidanceEmbedding(8.5, 4)[0]).toBeCloseTo(Math.sin(7500), 3);
  });
});

describe('a host tensor', () => {
  it('keeps whole numbers beyond 32 bits', () => {
    expect(toHostTensor([2 ** 40], 'int64', [1]).data).toEqual(Uint8Array.of(0, 0, 0, 0, 0, 1, 0, 0));
  });

  it('of a type that the pipeline does not feed is refused', () => {
    expect(() => toHostTensor([1], 'bfloat16', [1])).toThrow('found bfloat16');
  });
});
