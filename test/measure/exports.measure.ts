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

const decibels = (value: number): string => (value === Number.POSITIVE_INFINITY ? 'equal' : `${value.toFixed(0)} dB`);

const measure = async (model: OptimumModel): Promise<void> => {
  const directory = join(scratch.path, model);
  await layOut(model, directory);
  for (const [golden, asked] of Object.entries(readGoldens(model).pictures)) {
    const cells: string[] = [];
    for (const workers of WORKERS) {
      const config = await writeConfig(scratch.path, directory, workers);
      const painted = await paint(model, golden, { config, scratch: scratch.path });
      expect(painted.psnr, `${model} ${golden} on ${workers}`).toBeGreaterThanOrEqual(50);
      cells.push(decibels(painted.psnr));
    }
    const size = `${asked.width}x${asked.height}`;
    printRow([model, schedulerOf(model).replace('Scheduler', ''), String(asked.num_inference_steps), size, ...cells]);
  }
  await rm(directory, { recursive: true, force: true });
};

it('paints what diffusers paints', async () => {
  const head = ['model', 'scheduler', 'steps', 'size', ...WORKERS.map((count) => `${count} workers`)];
  printRow(head);
  printRow(head.map(() => '---'));
  for (const model of OPTIMUM_MODELS) await measure(model);
});
