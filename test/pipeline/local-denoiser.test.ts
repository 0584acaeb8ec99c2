import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { beforeAll, describe, expect, it } from 'vitest';
import type { DenoiserSize, ModelDirectory } from '#tandem/coordinator/pipeline/index.js';
import { denoiserSizeFor, openLocalDenoiser, readModelDirectory } from '#tandem/coordinator/pipeline/index.js';
import { MODEL, temporaryModel } from './helpers.js';

let model: ModelDirectory;
let size: DenoiserSize;

beforeAll(async () => {
  model = await readModelDirectory(MODEL);
  size = denoiserSizeFor(model, { width: 32, height: 64, guidanceScale: 2 });
});

describe('a local denoiser', () => {
  it('has the sizes that it was opened for', async () => {
    const denoiser = await openLocalDenoiser({ model: model.denoiser, size, threads: 1 });
    await denoiser.close();
    const [sample, timestep, embeddings] = denoiser.inputs;
    expect(sample).toMatchObject({ name: 'sample', shape: [2, 4, 16, 8] });
    expect(timestep).toMatchObject({ name: 'timestep', shape: [] });
    expect(embeddings).toMatchObject({ name: 'encoder_hidden_states', shape: [2, 32, expect.any(Number)] });
    expect(denoiser.outputs).toMatchObject([{ shape: [2, 4, 16, 8] }]);
  });

  it('that is not an ONNX model is refused with the file and the reason', async () => {
    const broken = await temporaryModel();
    const path = join(broken.directory, 'broken.onnx');
    await writeFile(path, 'not a model');
    await expect(openLocalDenoiser({ model: path, size })).rejects.toMatchObject({
      code: 'SESSION_FAILED',
      message: expect.stringContaining(path),
    });
    await broken.remove();
  });

  it('that takes too long is ended', async () => {
    await expect(openLocalDenoiser({ model: model.denoiser, size, timeoutMs: 1 })).rejects.toMatchObject({
      code: 'SESSION_TIMEOUT',
    });
  });

  it('is not opened for a size that latents cannot have', () => {
    expect(() => denoiserSizeFor(model, { width: 102, height: 0, guidanceScale: 1 })).toThrow(
      /width must be a multiple of \d+; found 102, nearest are .*height must be a multiple of \d+; found 0, the smallest is/,
    );
  });
});
