/** Every scheduler as a user picks it: by the command line, on the shipped model or, for flows, on a tiny FLUX. */
import { readFileSync, writeFileSync } from 'node:fs';
import { join, resolve } from 'node:path';
import { decode } from 'fast-png';
import { afterAll, describe, expect, it } from 'vitest';
import { SCHEDULER_NAMES } from '#tandem/coordinator/pipeline/index.js';
import { familyModel } from '../pipeline/family-models.js';
import { makeScratch, tandem } from './tandem.js';

const scratch = makeScratch();
afterAll(() => scratch.remove());

const STEPS = 5;

/** Calls of the denoiser where they are not one a step. */
const CALLS: Readonly<Record<string, number>> = {
  pndm: STEPS + 9,
  heun: 2 * STEPS - 1,
  kdpm2: 2 * STEPS - 1,
  'kdpm2-ancestral': 2 * STEPS - 1,
  'dpmpp-sde': 2 * STEPS - 1,
  'flow-match-heun': 2 * STEPS - 1,
};

const generate = (name: string, out: string, config = resolve('configs/single-cpu.yaml'), ...more: string[]) =>
  tandem(
    [
      'generate',
      ...['--config', config, '--prompt', 'a red apple', '--seed', '5'],
      ...['--num-inference-steps', String(STEPS), '--scheduler', name, '--out', out, '--json', ...more],
    ],
    scratch.path,
  );

const isFlow = (name: string): boolean => name.startsWith('flow-match');

/** How far pixels lie from the middle grey that noise and empty pictures have on the average. */
const contrast = (file: string): number => {
  const pixels = [...decode(readFileSync(file)).data];
  const mean = pixels.reduce((sum, value) => sum + value, 0) / pixels.length;
  return Math.sqrt(pixels.reduce((sum, value) => sum + (value - mean) ** 2, 0) / pixels.length);
};

describe('tandem generate --scheduler', () => {
  it.each(SCHEDULER_NAMES.filter((name) => !isFlow(name)))('%s makes a picture', async (name) => {
    const out = join(scratch.path, `${name}.png`);
    const { status, stdout, stderr } = await generate(name, out);
    expect(status).toBe(0);
    expect(JSON.parse(stdout)).toMatchObject({ scheduler: name, num_inference_steps: STEPS });
    expect(JSON.parse(stdout).timings.step_ms).toHaveLength(CALLS[name] ?? STEPS);
    expect(stderr).not.toMatch(/error/i);
    expect(decode(readFileSync(out))).toMatchObject({ width: 64, height: 64 });
    expect(contrast(out)).toBeGreaterThan(10);
  });

  it.each(SCHEDULER_NAMES.filter(isFlow))('%s is refused for a model that is no flow', async (name) => {
    const { status, stderr } = await generate(name, join(scratch.path, 'flow.png'));
    expect(status).toBe(1);
    expect(stderr).toContain('a diffusion model cannot be run by a flow scheduler');
  });

  it.each(['flow-match-euler', 'flow-match-heun', 'flow-match-lcm', 'unipc', 'dpmpp-2m', 'dpmpp-singlestep', 'deis'])(
    '%s makes a picture with a flow model, whose shift follows the size',
    async (name) => {
      const model = await familyModel('flux');
      try {
        const config = join(scratch.path, 'flux.yaml');
        writeFileSync(config, `model: ${model.directory}\ndevices:\n  - provider: cpu\n    threads: 1\n`);
        const out = join(scratch.path, `flux-${name}.png`);
        const { status, stdout } = await generate(name, out, config, ...['--width', '64', '--height', '64']);
        expect(status).toBe(0);
        expect(JSON.parse(stdout)).toMatchObject({ scheduler: name });
        expect(JSON.parse(stdout).timings.step_ms).toHaveLength(CALLS[name] ?? STEPS);
        expect(contrast(out)).toBeGreaterThan(1);
      } finally {
        await model.remove();
      }
    },
  );
});
