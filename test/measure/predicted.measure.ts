/**
 * Predicted and simulated against measured step times at one and two workers with one thread each, after calibrating on each model:
 * `npm run measure -- predicted`. Needs 12 GB of memory and 20 GB of disk. A name after it takes that model only:
 * `MODELS=tiny-ts17 npm run measure -- predicted`.
 */
import { join } from 'node:path';
import { it } from 'vitest';
import { calibrate, withCalibration } from '#tandem/coordinator/calibration/index.js';
import { bench, type DenoiserModel, findDenoiserModel } from '#tandem/coordinator/index.js';
import { simulateModel } from '#tandem/coordinator/simulate/index.js';
import { cpuCluster, modelOf, SCRATCH } from './scratch.js';

type Dims = Readonly<Record<string, number>>;

const SMALL_LATENTS = { batch_size: 2, height: 32, width: 32, sequence_length: 77 };
const MODELS: readonly (readonly [name: string, dims: Dims, steps: number])[] = [
  ['tiny-ts17', {}, 100],
  ['sd15-ts17-sym', SMALL_LATENTS, 6],
  ['sd15-ts17', {}, 5],
];

const wanted = process.env.MODELS?.split(',');
const ms = (value: number): string => (value < 1000 ? `${value.toFixed(1)} ms` : `${(value / 1000).toFixed(2)} s`);

const calibrationOf = ({ path }: DenoiserModel): string => join(SCRATCH, `calibration-${path.split('/').at(-2)}.json`);

const measure = async (model: DenoiserModel, dims: Dims, steps: number) => {
  const calibration = calibrationOf(model);
  const clusters = [1, 2].map((worldSize) => ({ ...cpuCluster(model.path, worldSize), calibration }));
  const [, two] = clusters;
  if (two) await calibrate({ model, dims, cluster: two });
  const runs = [];
  for (const cluster of clusters) {
    runs.push({ ...(await withCalibration(cluster)), name: `${cluster.devices.length}`, model, dims });
  }
  return bench({ runs, steps, plain: false });
};

/** A simulated step on one worker and on two, with what was measured of operators and exchanges. */
const simulateBoth = async (model: DenoiserModel, dims: Dims): Promise<readonly number[]> => {
  const settings = (count: number) => ({
    ...cpuCluster(model.path, count),
    calibration: calibrationOf(model),
  });
  const links = ['as-rated'];
  const { points } = await simulateModel({ model, dims, counts: [1, 2], links, microBatches: 1, settings });
  return points.map(({ stepMs }) => stepMs);
};

it('prints predicted and measured step times', async () => {
  const rows: Record<string, string | number>[] = [];
  for (const [name, dims, steps] of MODELS) {
    if (wanted && !wanted.includes(name)) continue;
    const model = findDenoiserModel(await modelOf(name));
    const report = await measure(model, dims, steps);
    const simulated = await simulateBoth(model, dims);
    for (const run of report.runs) {
      const shortest = Math.min(...run.step_ms.values);
      const predicted = run.predicted?.step_ms ?? Number.NaN;
      rows.push({
        model: name,
        ranks: run.world_size,
        predicted: ms(predicted),
        'of it exchange': ms(run.predicted?.exchange_ms ?? 0),
        simulated: ms(simulated[run.world_size - 1] ?? Number.NaN),
        'shortest step': ms(shortest),
        median: ms(run.step_ms.p50),
        'predicted / shortest': (predicted / shortest).toFixed(2),
        'simulated / shortest': ((simulated[run.world_size - 1] ?? Number.NaN) / shortest).toFixed(2),
        'predicted / median': (predicted / run.step_ms.p50).toFixed(2),
      });
    }
  }
  console.table(rows);
});
