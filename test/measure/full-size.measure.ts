/**
 * Stable Diffusion 1.5's real configuration (860 M parameters, random weights, 64x64 latents), one worker against two with one
 * thread each, and a plain session with two: `npm run measure -- full-size`. Needs 14 GB of memory and 28 GB of disk.
 */
import { it } from 'vitest';
import { largestWorker } from '#tandem/coordinator/bench/bench.js';
import { bench, findDenoiserModel, plan } from '#tandem/coordinator/index.js';
import { countGathers, countSums } from '../partition/stages.js';
import { cpuCluster, graphOf, modelOf } from './scratch.js';

/** `STEPS=3` for a short look. */
const STEPS = Number(process.env.STEPS ?? 7);
const SIZES = { height: 64, width: 64, sequence_length: 77 };
const mebibytes = (bytes: number): string => `${(bytes / 2 ** 20).toFixed(0)} MiB`;
const seconds = (ms: number): string => `${(ms / 1000).toFixed(2)} s`;

/** A step's inputs: one prompt, guidance's two prompts one beside the other, or both as one batch. */
const STEPS_OF = [
  { name: 'one prompt', export: 'sd15-ts17', dims: {}, microBatches: 1 },
  { name: 'guidance, two micro-batches', export: 'sd15-ts17', dims: {}, microBatches: 2 },
  { name: 'guidance, a batch of two', export: 'sd15-ts17-sym', dims: { ...SIZES, batch_size: 2 }, microBatches: 1 },
] as const;

it.each(STEPS_OF)('prints where a step of the full-size UNet goes: $name', async (step) => {
  const model = findDenoiserModel(await modelOf(step.export));
  const { dims, microBatches } = step;
  const run = (name: string, worldSize: number, wire: 'fp32' | 'fp16') => {
    const config = cpuCluster(model.path, worldSize, wire);
    return { ...config, name, model, dims, microBatches };
  };
  const report = await bench({
    runs: [run('one worker', 1, 'fp32'), run('two workers, fp16 wire', 2, 'fp16'), run('two workers', 2, 'fp32')],
    steps: STEPS,
  });
  const base = report.runs[0]?.step_ms.p50 ?? 0;
  console.log(step.name);
  console.table(
    [...report.runs, ...(report.plain ? [report.plain] : [])].map((one) => ({
      run: one.name,
      threads: one.threads,
      step: seconds(one.step_ms.p50),
      'times one worker': (base / one.step_ms.p50).toFixed(2),
      shortest: seconds(Math.min(...one.step_ms.values)),
      compute: seconds(one.phases_ms.compute),
      exchange: seconds(one.phases_ms.exchange),
      control: seconds(one.phases_ms.control),
      'on the wire': mebibytes(one.wire_bytes_per_step),
      load: seconds(one.load_ms),
      'weights of a worker': mebibytes(Math.max(...one.workers.map(({ weight_bytes }) => weight_bytes))),
      'peak private': mebibytes(Math.max(...one.workers.map(({ peak_private_bytes }) => peak_private_bytes))),
      'with mapped weights': mebibytes(largestWorker(one)),
    })),
  );
});

it('prints the plans of the full-size graphs', async () => {
  const rows: Record<string, string | number>[] = [];
  const sizes = { batch_size: 1, height: 128, width: 128, sequence_length: 77 };
  for (const [name, dims] of [
    ['sd15-ts17', {}],
    ['sdxl-ts17-sym', sizes],
  ] as const) {
    const path = await graphOf(name);
    for (const worldSize of [2, 4]) {
      const { devices } = cpuCluster(path, worldSize);
      const start = performance.now();
      const report = await plan({ model: { path }, devices, dims, wire: 'fp32' });
      rows.push({
        graph: name,
        ranks: worldSize,
        'planned in': seconds(performance.now() - start),
        'weights split': `${(report.sharded_weight_fraction * 100).toFixed(1)} %`,
        'operations split': `${(report.sharded_flop_fraction * 100).toFixed(1)} %`,
        'all-reduces': countSums(report),
        'all-gathers': countGathers(report),
        'sent per step': mebibytes(report.wire_bytes_per_step),
        'weights of a rank': mebibytes(Math.max(...report.ranks.map(({ weight_bytes }) => weight_bytes))),
      });
    }
  }
  console.table(rows);
});
