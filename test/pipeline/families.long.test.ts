/** Whole pictures of every family in one session, against what diffusers paints from the same latents. */
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import {
  createPipeline,
  type DenoiserSize,
  denoiserSizeFor,
  type GeneratedImage,
  type ImageRequest,
  openLocalDenoiser,
  readModelDirectory,
} from '#tandem/coordinator/pipeline/index.js';
import { createRandomStream } from '#tandem/coordinator/pipeline/random.js';
import { openTokenizer } from '#tandem/coordinator/pipeline/tokenizer.js';
import { errorOf } from '../cluster/helpers.js';
import {
  FAMILY_NAMES,
  type FamilyGolden,
  type FamilyModel,
  type FamilyName,
  familyModel,
  readFamilyGolden,
  tokenGoldens,
} from './family-models.js';
import { psnr, relativeError } from './helpers.js';

const models = new Map<FamilyName, FamilyModel>();

beforeAll(async () => {
  for (const family of FAMILY_NAMES) models.set(family, await familyModel(family));
});

afterAll(async () => {
  for (const model of models.values()) await model.remove();
});

const directoryOf = (family: FamilyName): string => models.get(family)?.directory ?? '';

const requestOf = ({ picture, ...request }: FamilyGolden): ImageRequest => request;

/** Paints with a whole denoiser on one thread. */
const paint = async (
  directory: string,
  request: ImageRequest,
  sizes: Partial<DenoiserSize> = {},
): Promise<GeneratedImage> => {
  const size = { width: request.width ?? 0, height: request.height ?? 0 };
  const model = await readModelDirectory(directory);
  const denoiser = await openLocalDenoiser({
    model: model.denoiser,
    size: { ...denoiserSizeFor(model, { ...size, guidanceScale: request.guidanceScale }), ...sizes },
    threads: 1,
  });
  try {
    const pipeline = await createPipeline({ directory, denoiser, size, threads: 1 });
    try {
      return await pipeline.generateImage(request);
    } finally {
      await pipeline.close();
    }
  } finally {
    await denoiser.close();
  }
};

describe('a picture of every family', () => {
  it.each([
    ['sdxl', 'guided'],
    ['sdxl', 'no-negative'],
    ['sd3', 'guided'],
    ['flux', 'guided'],
    ['z-image', 'turbo'],
    ['z-image', 'guided'],
  ] as const)('is the one that diffusers paints from the same latents (%s, %s)', async (family, name) => {
    const golden = readFamilyGolden(family, name);
    const { image, warnings } = await paint(directoryOf(family), requestOf(golden));
    expect(psnr(image.data, golden.picture)).toBeGreaterThan(50);
    expect([image.width, image.height]).toEqual([golden.width, golden.height]);
    expect(warnings).toEqual([]);
  });

  it('may be made without T5 where the model is Stable Diffusion 3', async () => {
    const model = await familyModel('sd3');
    await model.edit('model_index.json', { text_encoder_3: [null, null], tokenizer_3: [null, null] });
    await model.remove('text_encoder_3');
    await model.remove('tokenizer_3');
    const golden = readFamilyGolden('sd3', 'no-t5');
    const { image } = await paint(model.directory, requestOf(golden));
    await model.remove();
    expect(psnr(image.data, golden.picture)).toBeGreaterThan(50);
  });

  it.each(FAMILY_NAMES)('starts from the latents that the seed gives in torch (%s)', (family) => {
    const { seed, initialLatents } = readFamilyGolden(family, family === 'z-image' ? 'turbo' : 'guided');
    expect(relativeError(createRandomStream(seed).normal(initialLatents.length), initialLatents)).toBeLessThan(1e-5);
  });
});

describe('the tokenizers of every family', () => {
  const goldens = FAMILY_NAMES.flatMap((family) => tokenGoldens(family).map((golden) => ({ family, ...golden })));

  it('give the ids of transformers', async () => {
    expect(goldens.length).toBeGreaterThan(40);
    for (const { family, directory, text, ids } of goldens) {
      const found = (await (await openTokenizer(directory)).tokenize(text, { pad: false })).ids;
      expect(found, `${family}, ${directory}: ${text}`).toEqual(ids);
    }
  });

  it('end a prompt that is cut off as a whole one ends, where they have an end token', async () => {
    for (const { family, directory } of goldens) {
      const tokenizer = await openTokenizer(directory);
      const whole = await tokenizer.tokenize('a red cat on the beach', { pad: false });
      const cut = await tokenizer.tokenize('a red cat on the beach', { length: 4 });
      expect(cut.ids).toHaveLength(4);
      expect(cut.attentionMask).toEqual([1, 1, 1, 1]);
      expect(cut.truncatedText).toMatch(/beach$/);
      expect(cut.ids[3]).toBe(family === 'z-image' ? whole.ids[3] : whole.ids.at(-1));
    }
  });
});

describe('the latents of a VAE that normalises each channel by itself', () => {
  it('are given back their means and deviations', async () => {
    const golden = readFamilyGolden('sdxl', 'no-negative');
    const model = await familyModel('sdxl');
    // Twice the deviation and twice the scaling factor are the same latents again.
    await model.edit('vae_decoder/config.json', {
      scaling_factor: 0.2605,
      latents_mean: [0, 0, 0, 0],
      latents_std: [2, 2, 2, 2],
    });
    const same = await paint(model.directory, requestOf(golden));
    await model.edit('vae_decoder/config.json', { latents_mean: [9, -9, 9, -9] });
    const moved = await paint(model.directory, requestOf(golden));
    await model.remove();
    expect(psnr(same.image.data, golden.picture)).toBeGreaterThan(50);
    expect(psnr(moved.image.data, golden.picture)).toBeLessThan(45);
  });
});

describe('what is asked of a picture shows in it', () => {
  it.each([
    ['sdxl', 'guided', { prompt: 'a blue robot' }],
    ['sdxl', 'guided', { negativePrompt: 'a red cat' }],
    ['sdxl', 'guided', { guidanceScale: 3 }],
    ['sd3', 'guided', { negativePrompt: 'a red cat' }],
    ['flux', 'guided', { prompt: 'a blue robot' }],
    ['flux', 'guided', { guidanceScale: 8 }],
    ['z-image', 'turbo', { prompt: 'a blue robot' }],
    ['z-image', 'guided', { negativePrompt: 'a red cat' }],
  ] as const)('%s, %s, with %j', async (family, name, change) => {
    const golden = readFamilyGolden(family, name);
    const { image } = await paint(directoryOf(family), { ...requestOf(golden), ...change });
    expect(psnr(image.data, golden.picture)).toBeLessThan(45);
  });
});

describe('what a family does not have', () => {
  it('is refused: a negative prompt for FLUX', async () => {
    const golden = readFamilyGolden('flux', 'guided');
    const error = await errorOf(paint(directoryOf('flux'), { ...requestOf(golden), negativePrompt: 'blurry' }));
    expect(error.code).toBe('REQUEST_INVALID');
    expect(error.message).toContain('FLUX models have no negative prompt');
  });

  it('is refused: sides that are no multiple of its patches', async () => {
    const golden = readFamilyGolden('flux', 'guided');
    const error = await errorOf(paint(directoryOf('flux'), { ...requestOf(golden), width: 72 }));
    expect(error.message).toContain('multiple of 16; found 72, nearest are 64 and 80');
  });

  it('is refused: a text encoder without the states that are needed', async () => {
    const model = await familyModel('sd3');
    // T5's graph in the place of CLIP's has neither its states nor its projection.
    await model.remove('text_encoder');
    await model.copy('text_encoder_3', 'text_encoder');
    const error = await errorOf(paint(model.directory, requestOf(readFamilyGolden('sd3', 'guided'))));
    await model.remove();
    expect(error.code).toBe('MODEL_INPUTS');
    expect(error.problems).toEqual([
      expect.stringContaining('output_hidden_states=True'),
      expect.stringContaining('expected text_embeds'),
    ]);
  });

  it('is refused: a guidance scale that the config promises and the export has dropped', async () => {
    const model = await familyModel('z-image');
    await model.edit('transformer/config.json', { guidance_embeds: true });
    const error = await errorOf(paint(model.directory, requestOf(readFamilyGolden('z-image', 'turbo'))));
    await model.remove();
    expect(error.message).toContain('its input "guidance" is missing');
  });

  it('is refused: a denoiser opened for fewer tokens than CLIP has', async () => {
    const golden = readFamilyGolden('sd3', 'guided');
    const error = await errorOf(paint(directoryOf('sd3'), requestOf(golden), { sequenceLength: 77 }));
    expect(error.message).toContain('opened for prompts of 77 tokens, of which CLIP takes 77; open it for 333');
  });

  it('is refused: a chat message through a tokenizer that has no such tokens', async () => {
    const model = await familyModel('z-image');
    await model.remove('tokenizer');
    await model.copyFrom('flux', 'tokenizer');
    const error = await errorOf(paint(model.directory, requestOf(readFamilyGolden('z-image', 'turbo'))));
    await model.remove();
    expect(error.code).toBe('TOKENIZER_INVALID');
    expect(error.message).toContain('<|im_start|>');
  });

  it('is told: a part of the prompt that no encoder reads', async () => {
    const golden = readFamilyGolden('sdxl', 'guided');
    const { warnings } = await paint(directoryOf('sdxl'), { ...requestOf(golden), prompt: 'a red cat '.repeat(60) });
    expect(warnings).toEqual([expect.stringContaining('prompt is too long')]);
  });
});
