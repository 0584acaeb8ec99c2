/** Every scheduler as a user picks it: by the command line, on the shipped model. */
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { decode } from 'fast-png';
import { afterAll, describe, expect, it } from 'vitest';
import { SCHEDULER_NAMES } from '#tandem/coordinator/pipeline/index.js';
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
};

const generate = (name: string, out: string) =>
  tandem(
    [
      'generate',
      ...['--config', 'configs/single-cpu.yaml', '--prompt', 'a red apple', '--seed', '5'],
      ...['--num-inference-steps', String(STEPS), '--scheduler', name, '--out', out, '--json'],
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
});
