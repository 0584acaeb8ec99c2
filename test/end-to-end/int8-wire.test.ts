/** Int8 on the wire, on real workers: a quarter of the bytes, pictures within 40 dB, and nothing of it unmeasured without a word. */
import { join } from 'node:path';
import { beforeAll, describe, expect, it } from 'vitest';
import { planModel } from '#tandem/coordinator/generate/picture.js';
import { type ClusterConfig, findDenoiserModel, plan, verify } from '#tandem/coordinator/index.js';
import { checkWireError, rememberWireError } from '#tandem/coordinator/verify/wire-error.js';
import { materialise } from '../fixtures/materialise.js';
import { MODEL, psnr } from '../pipeline/helpers.js';
import { fileDirectory } from '../support/directory.js';
import { copyPrepared } from '../support/prepared.js';
import { cpuConfig, paint } from './cpu-pictures.js';

const scratch = fileDirectory();
copyPrepared(scratch);

const configFor = (model: string, worldSize: number, dtype: ClusterConfig['wire']['dtype']): ClusterConfig =>
  cpuConfig(scratch, model, worldSize, `wire: { dtype: ${dtype} }`);

describe('an int8 wire', () => {
  it.each([
    ['tiny-ts14', 2],
    ['tiny-linearproj-dynamo18', 3],
  ] as const)(
    'keeps 40 dB of the prediction of %s with under 0.3 of the bytes, and %i ranks agree to the bit',
    async (name, ranks) => {
      const model = findDenoiserModel(await materialise(name, join(scratch, name)));
      const settings = configFor(model.path, ranks, 'int8');
      const report = await verify({ ...settings, model, dims: {}, seed: 3 });
      expect(report).toMatchObject({ passed: true, ranks_agree: true, min_psnr_db: 40, tolerance: null });
      expect(report.psnr_db, 'something is rounded').toBeLessThan(70);
      const exact = await plan({ model, devices: settings.devices, dims: {}, wire: 'fp32' });
      expect(report.wire_bytes_per_step).toBeLessThan(0.3 * exact.wire_bytes_per_step);
    },
  );
});

describe('a picture over an int8 wire', () => {
  const notices: string[] = [];
  const picture = (dtype: ClusterConfig['wire']['dtype']): Promise<Uint8Array> =>
    paint({
      config: configFor(MODEL, 2, dtype),
      out: join(scratch, `${dtype}.png`),
      onNotice: (notice) => {
        if (!/^(Partitioning|Reusing) /.test(notice)) notices.push(notice);
      },
    });
  let exact: Uint8Array;

  beforeAll(async () => {
    exact = await picture('fp32');
  });

  it('is within 40 dB of the exact one, and a notice says that its error was not measured', async () => {
    expect(notices).toEqual([]);
    const found = await picture('int8');
    expect(psnr(found, exact)).toBeGreaterThanOrEqual(40);
    expect(notices).toEqual([expect.stringMatching(/int8 rounds .* nobody has measured .* "tandem verify"/)]);
  });

  it('is made without a word where verify has measured enough, and refused where it has measured too much', async () => {
    const settings = configFor(MODEL, 2, 'int8');
    const planned = await planModel(settings);
    const check = async (psnr_db: number): Promise<readonly string[]> => {
      const told: string[] = [];
      await rememberWireError(settings, planned, psnr_db);
      await checkWireError(settings, planned, { onNotice: (notice) => told.push(notice) });
      return told;
    };
    expect(await check(44.2)).toEqual([]);
    await expect(check(38)).rejects.toThrowError(
      expect.objectContaining({ code: 'WIRE_ERROR', message: expect.stringMatching(/found 38\.0 dB .* fp16/) }),
    );
  });
});
