/** Int8 weights on real workers: real exporters' UNets within 30 dB of float32 in a fraction of the bytes, and pictures as well. */
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { type ClusterConfig, findDenoiserModel, plan, verify } from '#tandem/coordinator/index.js';
import { materialise } from '../fixtures/materialise.js';
import { MODEL, psnr } from '../pipeline/helpers.js';
import { fileDirectory } from '../support/directory.js';
import { cpuConfig, paint } from './cpu-pictures.js';

const scratch = fileDirectory();

const configFor = (model: string, worldSize: number, quantize: ClusterConfig['quantize']): ClusterConfig =>
  cpuConfig(scratch, model, worldSize, `quantize: ${quantize}`);

describe("a real exporter's UNet", () => {
  it.each([
    ['tiny-ts14', 1],
    ['tiny-linearproj-dynamo18', 3],
  ] as const)(
    '(%s) keeps 30 dB of its prediction with int8 weights, and its ranks agree, on %i',
    async (name, ranks) => {
      const path = await materialise(name, join(scratch, name));
      const model = findDenoiserModel(path);
      const report = await verify({ ...configFor(path, ranks, 'int8'), model, dims: {}, seed: 3 });
      expect(report).toMatchObject({ passed: true, ranks_agree: true, min_psnr_db: 30, tolerance: null });
      expect(report.psnr_db).toBeGreaterThanOrEqual(30);
      expect(report.psnr_db, 'something is rounded').toBeLessThan(70);
      const { devices } = configFor(path, ranks, 'none');
      const exact = await plan({ model, devices, dims: {}, wire: 'fp32' });
      for (const [rank, { weight_bytes }] of report.ranks.entries())
        expect(weight_bytes).toBeLessThanOrEqual(0.3 * (exact.ranks[rank]?.weight_bytes ?? 0));
    },
  );
});

describe('a picture with int8 weights', () => {
  const picture = (worldSize: number, quantize: ClusterConfig['quantize']): Promise<Uint8Array> =>
    paint({ config: configFor(MODEL, worldSize, quantize), numInferenceSteps: 8, out: join(scratch, 'picture.png') });

  it('is the one with float32 weights, to 30 dB, from one worker and from two', async () => {
    const exact = await picture(1, 'none');
    for (const worldSize of [1, 2]) {
      const found = await picture(worldSize, 'int8');
      expect(found).not.toEqual(exact);
      expect(psnr(found, exact)).toBeGreaterThanOrEqual(30);
    }
  });
});
