/**
 * What a worker of the full-size UNet (Stable Diffusion 1.5's real configuration, one prompt, 64x64 latents) holds in memory after some
 * steps, as Linux tells it (`/proc/PID/smaps_rollup`): `npm run measure -- memory`. Needs 8 GB of memory and 11 GB of disk.
 * Private are the pages that no other process has, mapped weights among them; the proportional set size adds to those its part of
 * the shared ones, so that over all workers no page counts twice. The figures are those of the largest worker.
 */
import { readFile } from 'node:fs/promises';
import { it } from 'vitest';
import { findDenoiserModel } from '#tandem/coordinator/index.js';

import { prepareModel, withCluster } from '#tandem/coordinator/start-cluster.js';
import { randomInputs } from '#tandem/coordinator/verify/random-inputs.js';
import { cpuCluster, modelOf } from './scratch.js';

const STEPS = 4;

interface Held {
  readonly private: number;
  readonly proportional: number;
  readonly anonymous: number;
}

/** MiB */
const heldBy = async (pid: number): Promise<Held> => {
  const text = await readFile(`/proc/${pid}/smaps_rollup`, 'utf8');
  const field = (name: string): number => Number(new RegExp(`^${name}:\\s+(\\d+) kB$`, 'm').exec(text)?.[1]) / 1024;
  return {
    private: field('Private_Clean') + field('Private_Dirty'),
    proportional: field('Pss'),
    anonymous: field('Anonymous'),
  };
};

const measure = async (path: string, worldSize: number, wire: 'fp32' | 'fp16'): Promise<Held> => {
  const run = { ...cpuCluster(path, worldSize, wire), model: findDenoiserModel(path), dims: {} };
  const ready = await prepareModel(run, { ...run, networks: [] }, {});
  return withCluster(ready, run, {}, async ({ cluster }) => {
    for (let step = 0; step < STEPS; step += 1)
      await cluster.network().step(randomInputs(cluster.network().inputs, step));
    const held = await Promise.all(cluster.workers.map(({ pid }) => heldBy(pid)));
    const largest = (of: keyof Held): number => Math.max(...held.map((one) => one[of]));
    return { private: largest('private'), proportional: largest('proportional'), anonymous: largest('anonymous') };
  });
};

it('prints what a worker holds, alone and as one of two', async () => {
  const path = await modelOf('sd15-ts17');
  const single = await measure(path, 1, 'fp32');
  const rows = [
    { workers: 'one', held: single },
    { workers: 'two', held: await measure(path, 2, 'fp32') },
    { workers: 'two, fp16 wire', held: await measure(path, 2, 'fp16') },
  ];
  const cell = (value: number, base: number): string => `${value.toFixed(0)} MiB (${(value / base).toFixed(3)})`;
  console.table(
    rows.map(({ workers, held }) => ({
      workers,
      private: cell(held.private, single.private),
      'proportional set size': cell(held.proportional, single.proportional),
      'without mapped weights': cell(held.anonymous, single.anonymous),
    })),
  );
});
