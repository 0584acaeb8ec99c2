/**
 * Int8 weights against float32: Stable Diffusion 1.5's real configuration (860 M parameters, random weights, 64x64 latents), and
 * the shipped model's pictures, on one worker and on two of one thread each: `npm run measure -- int8`. Needs 8 GB of memory and
 * 14 GB of disk. All clusters are loaded at once and step in turns.
 */
import { readFile } from 'node:fs/promises';
import { join, resolve } from 'node:path';
import { decode } from 'fast-png';
import { it } from 'vitest';
import { compareOutputs } from '#tandem/common/compare.js';
import { type BenchRun, bench, type ClusterConfig, findDenoiserModel, generate } from '#tandem/coordinator/index.js';
import { prepareModel, type ReadyModel, withCluster } from '#tandem/coordinator/start-cluster.js';
import { randomInputs } from '#tandem/coordinator/verify/random-inputs.js';
import { cpuCluster, modelOf, SCRATCH } from './scratch.js';

const STEPS = 5;
const PICTURES = ['a red apple', 'a blue car', 'a smiling cat'];
const SHIPPED = resolve('models/emoji-sd');

type Quantize = ClusterConfig['quantize'];
const KINDS = [1, 2].flatMap((worldSize) => (['none', 'int8'] as const).map((quantize) => ({ worldSize, quantize })));

const nameOf = (worldSize: number, quantize: Quantize): string =>
  `${worldSize === 1 ? 'one worker' : `${worldSize} workers`}, ${quantize === 'none' ? 'fp32' : quantize}`;

const clusterOf = (model: string, worldSize: number, quantize: Quantize): ClusterConfig => ({
  ...cpuCluster(model, worldSize),
  quantize,
});

/** What a run's workers predict from the same random inputs. */
const predict = (run: BenchRun, ready: ReadyModel) =>
  withCluster(ready, run, {}, async ({ cluster }) => cluster.network().step(randomInputs(cluster.network().inputs, 1)));

it('prints the size, load time, step time and error of the full-size UNet', async () => {
  const model = findDenoiserModel(await modelOf('sd15-ts17'));
  const runs = KINDS.map(
    ({ worldSize, quantize }): BenchRun => ({
      ...clusterOf(model.path, worldSize, quantize),
      name: nameOf(worldSize, quantize),
      model,
      dims: {},
    }),
  );
  const bytes: number[] = [];
  const predictions: Awaited<ReturnType<typeof predict>>[] = [];
  for (const run of runs) {
    const ready = await prepareModel(run, { ...run, networks: [] }, {});
    bytes.push(ready.shards.manifest.files.reduce((sum, file) => sum + file.bytes, 0));
    predictions.push(await predict(run, ready));
  }
  const report = await bench({ runs, steps: STEPS, plain: false });
  console.table(
    report.runs.map((run, index) => {
      const exact = index - (index % 2);
      const median = report.runs[exact]?.step_ms.p50 ?? Number.NaN;
      return {
        run: run.name,
        'on disk': `${((bytes[index] ?? 0) / 2 ** 20).toFixed(0)} MiB`,
        'of fp32': ((bytes[index] ?? 0) / (bytes[exact] ?? 1)).toFixed(3),
        load: `${(run.load_ms / 1000).toFixed(2)} s`,
        step: `${(run.step_ms.p50 / 1000).toFixed(2)} s`,
        'fastest step': `${(Math.min(...run.step_ms.values) / 1000).toFixed(2)} s`,
        'times fp32': (median / run.step_ms.p50).toFixed(2),
        compute: `${(run.phases_ms.compute / 1000).toFixed(2)} s`,
        'peak private': `${(Math.max(...run.workers.map(({ peak_private_bytes }) => peak_private_bytes)) / 2 ** 20).toFixed(0)} MiB`,
        'PSNR of a step, dB': compareOutputs(predictions[index] ?? {}, predictions[0] ?? {}).psnr_db.toFixed(1),
      };
    }),
  );
});

interface Picture {
  readonly width: number;
  readonly height: number;
  /** RGB. */
  readonly data: Float64Array;
}

const paint = async (config: ClusterConfig, prompt: string, seed: number, name: string): Promise<Picture> => {
  const { file } = await generate({ config, prompt, seed, out: join(SCRATCH, `${name}.png`) });
  const { width, height, data } = decode(await readFile(file));
  return { width, height, data: Float64Array.from(data) };
};

const mean = (values: ArrayLike<number>): number => Array.from(values).reduce((a, b) => a + b, 0) / values.length;

const psnr = (a: Picture, b: Picture): number =>
  10 * Math.log10(255 ** 2 / mean(a.data.map((value, i) => (value - (b.data[i] ?? 0)) ** 2)));

/** Luma as in ITU-R BT.601. */
const luma = ({ data }: Picture): Float64Array =>
  Float64Array.from({ length: data.length / 3 }, (_, i) => {
    const [red = 0, green = 0, blue = 0] = data.subarray(3 * i, 3 * i + 3);
    return 0.299 * red + 0.587 * green + 0.114 * blue;
  });

const WINDOW = 8;
const STABILISERS = [(0.01 * 255) ** 2, (0.03 * 255) ** 2] as const;

/**
 * Structural similarity of the luma, averaged over all 8x8 windows: formula 13 of Wang, Bovik, Sheikh and Simoncelli, "Image
 * Quality Assessment: From Error Visibility to Structural Similarity", IEEE Transactions on Image Processing 13(4), 2004.
 */
const ssim = (a: Picture, b: Picture): number => {
  const [left, right] = [luma(a), luma(b)];
  const scores: number[] = [];
  for (let y = 0; y + WINDOW <= a.height; y++) {
    for (let x = 0; x + WINDOW <= a.width; x++) {
      const places = Array.from(
        { length: WINDOW * WINDOW },
        (_, i) => (y + Math.floor(i / WINDOW)) * a.width + x + (i % WINDOW),
      );
      scores.push(
        windowScore(
          places.map((at) => left[at] ?? 0),
          places.map((at) => right[at] ?? 0),
        ),
      );
    }
  }
  return mean(scores);
};

const windowScore = (a: readonly number[], b: readonly number[]): number => {
  const [meanA, meanB] = [mean(a), mean(b)];
  const covariance = (p: readonly number[], q: readonly number[], meanP: number, meanQ: number) =>
    mean(p.map((value, i) => (value - meanP) * ((q[i] ?? 0) - meanQ)));
  const [c1, c2] = STABILISERS;
  const luminance = (2 * meanA * meanB + c1) / (meanA ** 2 + meanB ** 2 + c1);
  const variances = covariance(a, a, meanA, meanA) + covariance(b, b, meanB, meanB);
  return (luminance * (2 * covariance(a, b, meanA, meanB) + c2)) / (variances + c2);
};

it("prints how close the shipped model's pictures are", async () => {
  const rows: Record<string, string | number>[] = [];
  for (const [seed, prompt] of PICTURES.entries()) {
    const pictures: Picture[] = [];
    for (const { worldSize, quantize } of KINDS) {
      const name = `int8-${seed}-${worldSize}-${quantize}`;
      pictures.push(await paint(clusterOf(SHIPPED, worldSize, quantize), prompt, seed, name));
    }
    const [exact] = pictures;
    for (const [index, picture] of pictures.entries()) {
      const kind = KINDS[index];
      if (!exact || !kind || index === 0) continue;
      rows.push({
        prompt,
        run: nameOf(kind.worldSize, kind.quantize),
        'PSNR, dB': psnr(picture, exact).toFixed(1),
        SSIM: ssim(picture, exact).toFixed(4),
      });
    }
  }
  console.table(rows);
  console.log(`Against one worker with fp32, 20 steps. The pictures are in ${SCRATCH}.`);
});
