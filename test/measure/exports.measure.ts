/**
 * Optimum's exports through the built command line, each with the scheduler that it ships with, on one, two and three workers against
 * diffusers' own pictures: `npm run measure -- exports`. Prints the table of docs/exports.md.
 */
import { rm } from 'node:fs/promises';
import { join } from 'node:path';
import { afterAll, expect, it } from 'vitest';
import { makeScratch } from '../cli/tandem.js';
import {
  layOut,
  OPTIMUM_MODELS,
  type OptimumModel,
  paint,
  readGoldens,
  schedulerOf,
  writeConfig,
} from '../end-to-end/optimum-models.js';

const WORKERS = [1, 2, 3] as const;
const scratch = makeScratch();
afterAll(scratch.remove);

const printRow = (cells: readonly string[]): void => console.log(`| ${cells.join(' | ')} |`);

const decibels = (value: number): string => (value === Number.POSITIVE_INFINITY ? 'equal' : `${value.toFixed(1)} dB`);

const measure = async (model: OptimumModel): Promise<void> => {
  const directory = join(scratch.path, model);
  await layOut(model, directory);
  const { pictures } = readGoldens(model);
  const [golden = '', wide = ''] = Object.keys(pictures);
  const paintOn = async (workers: number, name: string): Promise<string> => {
    const config = await writeConfig(scratch.path, directory, workers);
    const painted = await paint(model, name, { config, scratch: scratch.path });
    expect(painted.psnr, `${model} ${name} on ${workers}`).toBeGreaterThanOrEqual(50);
    return decibels(painted.psnr);
  };
  const cells = [model, schedulerOf(model).replace('Scheduler', ''), String(pictures[golden]?.num_inference_steps)];
  for (const workers of WORKERS) cells.push(await paintOn(workers, golden));
  printRow([...cells, await paintOn(2, wide)]);
  await rm(directory, { recursive: true, force: true });
};

it('paints what diffusers paints', async () => {
  const head = [
    'model',
    'scheduler',
    'steps',
    ...WORKERS.map((count) => (count === 1 ? '1 worker' : `${count} workers`)),
    'another size, 2 workers',
  ];
  printRow(head);
  printRow(head.map(() => '---'));
  for (const model of OPTIMUM_MODELS) await measure(model);
});
