/** Parity of every export with the whole model, by world size and wire type: `npm run measure -- parity`. */
import { expect, it } from 'vitest';
import { findDenoiserModel, verify } from '#tandem/coordinator/index.js';
import { cpuCluster, modelOf } from './scratch.js';

const SIZES = { batch_size: 2, height: 16, width: 16, sequence_length: 16 };
const CASES: readonly (readonly [string, Readonly<Record<string, number>>])[] = [
  ['tiny-ts14', {}],
  ['tiny-ts14-sym', SIZES],
  ['tiny-ts17', {}],
  ['tiny-ts17-sym', SIZES],
  ['tiny-dynamo18', {}],
  ['tiny-dynamo18-sym', SIZES],
  ['tiny-oldattn-ts14', {}],
  ['tiny-linearproj-dynamo18', {}],
  ['tiny-5heads-ts17', {}],
];

it('prints max_rel_error for each export, world size and wire type', async () => {
  const rows: Record<string, string | number>[] = [];
  for (const [name, dims] of CASES) {
    const model = findDenoiserModel(await modelOf(name));
    for (const [worldSize, wire] of [
      [2, 'fp32'],
      [3, 'fp32'],
      [4, 'fp32'],
      [2, 'fp16'],
    ] as const) {
      const report = await verify({ ...cpuCluster(model.path, worldSize, wire), model, dims, seed: 1 });
      expect(report.passed && report.ranks_agree, `${name}, ${worldSize} ranks, ${wire}`).toBe(true);
      rows.push({
        export: name,
        ranks: worldSize,
        wire,
        max_rel_error: report.max_rel_error.toExponential(1),
        'PSNR dB': Math.round(report.psnr_db),
        'weights split': `${(report.sharded_weight_fraction * 100).toFixed(1)} %`,
        'operations split': `${(report.sharded_flop_fraction * 100).toFixed(1)} %`,
        collectives: report.collective_count,
        'kB per step': Math.round(report.wire_bytes_per_step / 1000),
      });
    }
  }
  console.table(rows);
});
