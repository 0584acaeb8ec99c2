import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { readModelDirectory } from '#tandem/coordinator/pipeline/index.js';
import { errorOf } from '../cluster/helpers.js';
import { MODEL, readJson, type TemporaryModel, temporaryModel } from './helpers.js';

let model: TemporaryModel;

beforeEach(async () => {
  model = await temporaryModel();
});

afterEach(async () => {
  await model.remove();
});

describe('a model directory', () => {
  it('gives the paths and numbers that the pipeline needs', async () => {
    const read = await readModelDirectory(MODEL);
    expect(read).toMatchObject({
      denoiser: join(MODEL, 'unet/model.onnx'),
      scheduler: { name: 'ddim' },
      latents: { channels: 4, scalingFactor: 0.33593, shiftFactor: 0, downscale: 4 },
      sequenceLength: 32,
      defaultSize: { width: 64, height: 64 },
    });
  });

  it('is refused with every missing and malformed file at once', async () => {
    await model.remove('vae_decoder');
    await model.remove('text_encoder/model.onnx');
    await model.remove('tokenizer/tokenizer.json');
    await model.remove('tokenizer/merges.txt');
    await model.write('scheduler/scheduler_config.json', '{ not json');
    await model.write('unet/config.json', { in_channels: 'four' });
    await expect(readModelDirectory(model.directory)).rejects.toMatchObject({
      code: 'MODEL_DIRECTORY',
      problems: [
        'tokenizer/tokenizer.json is missing, and so is tokenizer/merges.txt, which would do as well.',
        'text_encoder/model.onnx is missing.',
        'vae_decoder/model.onnx is missing.',
        expect.stringContaining('unet/config.json: in_channels'),
        'vae_decoder/config.json is missing.',
        expect.stringContaining('scheduler/scheduler_config.json is not JSON'),
      ],
    });
  });

  it('that does not exist is named', async () => {
    await expect(readModelDirectory('/no/such/model')).rejects.toThrow('/no/such/model is not a model');
  });

  it('with a part that its class does not have is refused by name', async () => {
    const index = await readJson(join(MODEL, 'model_index.json'));
    await model.write('model_index.json', {
      ...index,
      text_encoder_2: ['transformers', 'CLIPTextModelWithProjection'],
    });
    await expect(readModelDirectory(model.directory)).rejects.toMatchObject({
      problems: ['model_index.json: it has a "text_encoder_2", which Stable Diffusion models do not have.'],
    });
  });

  it('of a class that is not supported is refused with those that are', async () => {
    await model.write('model_index.json', { _class_name: 'KandinskyPipeline' });
    await expect(readModelDirectory(model.directory)).rejects.toMatchObject({
      problems: [
        'model_index.json: KandinskyPipeline is not a pipeline that can be run; supported are StableDiffusionPipeline (Stable Diffusion), LatentConsistencyModelPipeline (Latent Consistency), StableDiffusionXLPipeline (Stable Diffusion XL), StableDiffusion3Pipeline (Stable Diffusion 3), FluxPipeline (FLUX), ZImagePipeline (Z-Image).',
      ],
    });
  });

  it('of an exporter that puts its own prefix before the class is read like any other', async () => {
    const index = await readJson(join(MODEL, 'model_index.json'));
    await model.write('model_index.json', { ...index, _class_name: 'ORTStableDiffusionPipeline' });
    expect((await readModelDirectory(model.directory)).family.name).toBe('Stable Diffusion');
  });

  it('of another class is told which of its networks are missing', async () => {
    await model.write('model_index.json', { _class_name: 'StableDiffusionXLPipeline' });
    const { problems } = await errorOf(readModelDirectory(model.directory));
    expect(problems).toContain('text_encoder_2/model.onnx is missing.');
    expect(problems.some((problem) => problem.startsWith('tokenizer_2/tokenizer.json is missing'))).toBe(true);
  });

  it('whose tokenizer is a SentencePiece model is refused with what to do', async () => {
    for (const file of ['tokenizer.json', 'vocab.json', 'merges.txt']) await model.remove(`tokenizer/${file}`);
    await model.write('tokenizer/spiece.model', 'unigrams');
    await expect(readModelDirectory(model.directory)).rejects.toMatchObject({
      problems: [expect.stringMatching(/spiece\.model cannot be read.*AutoTokenizer.*writes tokenizer\.json/)],
    });
  });

  it('may have the infinities that Python writes into JSON', async () => {
    await model.write(
      'scheduler/scheduler_config.json',
      '{ "_class_name": "DPMSolverMultistepScheduler", "lambda_min_clipped": -Infinity, "beta_schedule": "scaled_linear" }',
    );
    expect((await readModelDirectory(model.directory)).scheduler.name).toBe('dpmpp-2m');
  });

  it('with a number that is none is refused by the option', async () => {
    const config = '{ "_class_name": "DDIMScheduler", "beta_start": NaN, "trained_betas": null }';
    await model.write('scheduler/scheduler_config.json', config);
    await expect(readModelDirectory(model.directory)).rejects.toMatchObject({
      problems: [expect.stringContaining('beta_start is "NaN"')],
    });
  });

  it('of the original Stable Diffusion, which names PNDM, runs as it is and with another scheduler', async () => {
    const pndm = {
      _class_name: 'PNDMScheduler',
      beta_start: 0.00085,
      beta_end: 0.012,
      beta_schedule: 'scaled_linear',
      skip_prk_steps: true,
      steps_offset: 1,
    };
    await model.write('scheduler/scheduler_config.json', pndm);
    const own = (await readModelDirectory(model.directory)).scheduler;
    expect(own.create({ numInferenceSteps: 4 }).timesteps).toEqual([751, 501, 501, 251, 1]);
    const { scheduler } = await readModelDirectory(model.directory, 'ddim');
    expect(scheduler.create({ numInferenceSteps: 4 }).timesteps).toEqual([751, 501, 251, 1]);
  });

  it('of a scheduler that is not known runs with another, and says so where none was asked for', async () => {
    await model.write('scheduler/scheduler_config.json', { _class_name: 'EDMEulerScheduler', sigma_data: 0.5 });
    await expect(readModelDirectory(model.directory)).rejects.toMatchObject({
      problems: [
        expect.stringMatching(/found the class EDMEulerScheduler.*Supported are DDIMScheduler \(ddim\).*--scheduler/),
      ],
    });
    expect((await readModelDirectory(model.directory, 'heun')).scheduler.name).toBe('heun');
  });
});
