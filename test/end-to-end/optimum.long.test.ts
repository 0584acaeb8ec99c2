/** What Optimum exports, through the built command line: one, two and three workers paint what diffusers paints. */
import { rm } from 'node:fs/promises';
import { join } from 'node:path';
import { afterAll, describe, expect, it } from 'vitest';
import { makeScratch, tandem } from '../cli/tandem.js';
import { psnr } from '../pipeline/helpers.js';
import { layOut, OPTIMUM_MODELS, paint, readGoldens, writeConfig } from './optimum-models.js';

const scratch = makeScratch();
afterAll(scratch.remove);

describe.each(OPTIMUM_MODELS)('%s', (model) => {
  const directory = join(scratch.path, model);
  afterAll(() => rm(directory, { recursive: true, force: true }));

  it('is painted by one, two and three workers as by diffusers', async () => {
    await layOut(model, directory);
    const [golden = '', wide = ''] = Object.keys(readGoldens(model).pictures);
    const painted = [];
    for (const workers of [1, 2, 3]) {
      const config = await writeConfig(scratch.path, directory, workers);
      const one = await paint(model, golden, { config, scratch: scratch.path });
      expect(one.psnr, `${workers} workers`).toBeGreaterThanOrEqual(50);
      painted.push(one.picture);
    }
    const [alone, ...others] = painted;
    for (const other of others) expect(psnr(other, alone ?? new Uint8Array())).toBeGreaterThanOrEqual(60);
    const config = await writeConfig(scratch.path, directory, 2);
    const other = await paint(model, wide, { config, scratch: scratch.path });
    expect(other.psnr, 'another size, a long prompt').toBeGreaterThanOrEqual(50);
  });
});

it('a FLUX directory is planned and verified as it is', async () => {
  const directory = join(scratch.path, 'flux');
  await layOut('flux-schnell', directory);
  const sizes = ['batch_size=1', 'sequence_length=512', 'packed_height_width=16', 'step=1'].flatMap((dim) => [
    '--dim',
    dim,
  ]);
  const planned = await tandem(['plan', directory, '--tensor-parallel-size', '2', ...sizes], scratch.path);
  expect(planned.status).toBe(0);
  const verified = await tandem(['verify', directory, '--tensor-parallel-size', '2', ...sizes], scratch.path);
  expect(verified.stdout).toMatch(/^PASSED/);
});
