import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import type { GeneratedImage, ImageRequest, LocalDenoiser, Pipeline } from '#tandem/coordinator/pipeline/index.js';
import {
  createPipeline,
  denoiserSizeFor,
  openLocalDenoiser,
  readModelDirectory,
} from '#tandem/coordinator/pipeline/index.js';
import { createRandomStream } from '#tandem/coordinator/pipeline/random.js';
import {
  type Golden,
  MODEL,
  psnr,
  readFloats,
  readGolden,
  readPicture,
  relativeError,
  temporaryModel,
} from './helpers.js';

const SIZE = { width: 64, height: 64 };

const openDenoiser = async (guidanceScale: number): Promise<LocalDenoiser> => {
  const model = await readModelDirectory(MODEL);
  return openLocalDenoiser({
    model: model.denoiser,
    size: denoiserSizeFor(model, { ...SIZE, guidanceScale }),
    threads: 1,
  });
};

const requestOf = (golden: Golden): ImageRequest => ({
  prompt: golden.prompt,
  negativePrompt: golden.negative_prompt,
  seed: golden.seed,
  numInferenceSteps: golden.num_inference_steps,
  guidanceScale: golden.guidance_scale,
  width: golden.width,
  height: golden.height,
});

let guided: LocalDenoiser;
let single: LocalDenoiser;
let pipeline: Pipeline;

beforeAll(async () => {
  guided = await openDenoiser(7.5);
  single = await openDenoiser(1);
  pipeline = await createPipeline({ directory: MODEL, denoiser: guided, threads: 1 });
});

afterAll(async () => {
  await Promise.all([pipeline.close(), guided.close(), single.close()]);
});

const paintGolden = async (golden: Golden): Promise<GeneratedImage> => {
  const model = await temporaryModel();
  try {
    await model.write('scheduler/scheduler_config.json', golden.scheduler);
    const denoiser = golden.guidance_scale > 1 ? guided : single;
    const own = await createPipeline({ directory: model.directory, denoiser, threads: 1 });
    try {
      return await own.generateImage(requestOf(golden));
    } finally {
      await own.close();
    }
  } finally {
    await model.remove();
  }
};

const request: ImageRequest = { prompt: 'a green bird', seed: 7, numInferenceSteps: 3, guidanceScale: 4 };

describe('an image from a prompt and a seed', () => {
  it.each(['ddim', 'ddim-guidance-1', 'euler', 'dpm-multistep', 'lcm', 'flow-match-euler'])(
    'is the picture that PyTorch makes with the same weights (%s)',
    async (name) => {
      const golden = readGolden(name);
      expect(
        relativeError(createRandomStream(golden.seed).normal(1024), readFloats(golden.initial_latents.file)),
      ).toBeLessThan(1e-5);
      const { image, latents, timings } = await paintGolden(golden);
      expect(relativeError(latents.data, readFloats(golden.final_latents.file))).toBeLessThan(2e-3);
      expect(psnr(image.data, readPicture(golden.picture.file))).toBeGreaterThan(50);
      expect(timings.step_ms).toHaveLength(golden.num_inference_steps);
    },
  );

  it('is the same to the byte when it is made again', async () => {
    const [first, second] = [await pipeline.generateImage(request), await pipeline.generateImage(request)];
    expect(second.image.data).toEqual(first.image.data);
    expect(second.latents.data).toEqual(first.latents.data);
  });

  it('changes with the seed and with the negative prompt', async () => {
    const plain = await pipeline.generateImage(request);
    const seeded = await pipeline.generateImage({ ...request, seed: 8 });
    const negated = await pipeline.generateImage({ ...request, negativePrompt: 'a green bird, leaves' });
    expect(psnr(seeded.image.data, plain.image.data)).toBeLessThan(30);
    expect(psnr(negated.image.data, plain.image.data)).toBeLessThan(50);
  });

  it('starts from the latents that are given', async () => {
    const drawn = await pipeline.generateImage(request);
    const given = await pipeline.generateImage({
      ...request,
      seed: 99,
      initialLatents: createRandomStream(7).normal(1024),
    });
    expect(given.image.data).toEqual(drawn.image.data);
  });

  it('is the same whether guidance takes one call of batch 2 or two of batch 1', async () => {
    const twoCalls = await createPipeline({ directory: MODEL, denoiser: single, threads: 1 });
    const [one, two] = [await pipeline.generateImage(request), await twoCalls.generateImage(request)];
    await twoCalls.close();
    expect(psnr(two.image.data, one.image.data)).toBeGreaterThan(60);
  });
});

describe('while an image is made', () => {
  it('reports every step and leaves the event loop free', async () => {
    const steps: number[] = [];
    let ticks = 0;
    const timer = setInterval(() => ticks++, 1);
    await pipeline.generateImage({ ...request, numInferenceSteps: 8, onStep: ({ step }) => steps.push(step) });
    clearInterval(timer);
    expect(steps).toEqual([1, 2, 3, 4, 5, 6, 7, 8]);
    // Were the sessions run on this thread, it would tick once or twice a step at most.
    expect(ticks).toBeGreaterThan(24);
  });

  it('stops within one step when the signal fires', async () => {
    const controller = new AbortController();
    const steps: number[] = [];
    const image = pipeline.generateImage({
      ...request,
      numInferenceSteps: 20,
      signal: controller.signal,
      onStep({ step }) {
        steps.push(step);
        if (step === 2) setTimeout(() => controller.abort(), 1);
      },
    });
    await expect(image).rejects.toMatchObject({ code: 'REQUEST_ABORTED' });
    expect(steps.length).toBeLessThanOrEqual(3);
  });
});

describe('a request that cannot be met as asked', () => {
  it('is refused with every reason at once', async () => {
    const wrong = { ...request, width: 512, height: 128, initialLatents: new Float32Array(3) };
    await expect(pipeline.generateImage(wrong)).rejects.toMatchObject({
      code: 'REQUEST_INVALID',
      problems: [
        expect.stringContaining('width of 64'),
        expect.stringContaining('height of 64'),
        expect.stringContaining('1024 initial latents'),
      ],
    });
  });

  it.each([0, 1001, 2.5])('is refused for %s steps', async (numInferenceSteps) => {
    await expect(pipeline.generateImage({ ...request, numInferenceSteps })).rejects.toThrow(
      'whole number from 1 to 1000',
    );
  });

  it.each([-1, 0.5, 2 ** 60])('is refused for the seed %s', async (seed) => {
    await expect(pipeline.generateImage({ ...request, seed })).rejects.toThrow('Expected the seed');
  });

  it('is answered with a warning where the prompt is too long or the batch too large', async () => {
    const { warnings } = await pipeline.generateImage({
      ...request,
      prompt: 'a red cat '.repeat(60),
      guidanceScale: 1,
      negativePrompt: 'dog',
    });
    expect(warnings).toEqual([
      expect.stringContaining('prompt is too long'),
      expect.stringContaining('negative prompt has no effect'),
      expect.stringContaining('batch of 2'),
    ]);
  });
});

describe('another scheduler', () => {
  it('can be chosen over the one that the model names', async () => {
    const solver = await createPipeline({ directory: MODEL, denoiser: guided, scheduler: 'dpmpp-2m', threads: 1 });
    const [ddim, other] = [await pipeline.generateImage(request), await solver.generateImage(request)];
    await solver.close();
    expect(solver.scheduler).toBe('dpmpp-2m');
    expect(psnr(other.image.data, ddim.image.data)).toBeLessThan(50);
  });
});
