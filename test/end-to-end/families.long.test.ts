/** Pictures of every family made by real workers: diffusers' own, and the same for one worker and two. */
import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { decode } from 'fast-png';
import { describe, expect, it } from 'vitest';
import { type GenerateReport, generate, parseClusterConfig } from '#tandem/coordinator/index.js';
import { type FamilyGolden, familyModel, readFamilyGolden } from '../pipeline/family-models.js';
import { psnr } from '../pipeline/helpers.js';
import { fileDirectory } from '../support/directory.js';

const scratch = fileDirectory();

/** @param more lines of the config */
const configFor = (model: string, worldSize: number, more: readonly string[] = []) =>
  parseClusterConfig(
    [
      `model: ${JSON.stringify(model)}`,
      `shards: ${JSON.stringify(join(scratch, 'shards'))}`,
      'parallel: tensor',
      'devices:',
      ...Array.from({ length: worldSize }, () => '  - { provider: cpu, threads: 1 }'),
      ...more,
      '',
    ].join('\n'),
    join(scratch, 'cluster.yaml'),
  );

interface Painted {
  readonly report: GenerateReport;
  /** RGB. */
  readonly picture: Uint8Array;
}

/** The seed gives the latents that diffusers began with. */
const paint = async (
  model: string,
  worldSize: number,
  { picture, initialLatents, ...asked }: FamilyGolden,
  more: readonly string[] = [],
): Promise<Painted> => {
  const config = configFor(model, worldSize, more);
  const report = await generate({ ...asked, config, out: join(scratch, 'picture.png') });
  return { report, picture: Uint8Array.from(decode(await readFile(report.file)).data) };
};

const weightOf = ({ workers }: GenerateReport): number => Math.max(...workers.map(({ weight_bytes }) => weight_bytes));

describe('two workers paint what diffusers paints, and what one worker paints', () => {
  it.each([
    ['sdxl', 'guided', undefined],
    ['sd3', 'guided', '{ text_encoder: { rank: 0 }, text_encoder_3: shard, vae_decoder: { rank: 1 } }'],
    ['flux', 'guided', '{ text_encoder_2: shard }'],
    ['z-image', 'turbo', '{ text_encoder: shard }'],
  ] as const)('%s', async (family, name, placement) => {
    const golden = readFamilyGolden(family, name);
    const model = await familyModel(family);
    try {
      const alone = await paint(model.directory, 1, golden);
      const together = await paint(model.directory, 2, golden);
      expect(psnr(together.picture, golden.picture)).toBeGreaterThanOrEqual(50);
      expect(psnr(together.picture, alone.picture)).toBeGreaterThanOrEqual(60);
      expect(weightOf(together.report), 'the weights are split').toBeLessThan(0.75 * weightOf(alone.report));
      expect(together.report.warnings).toEqual([]);
      if (placement === undefined) return;
      const all = await paint(model.directory, 2, golden, [`placement: ${placement}`]);
      expect(psnr(all.picture, golden.picture), 'with other networks on the workers').toBeGreaterThanOrEqual(50);
      expect(all.report.warnings).toEqual([]);
      for (const [rank, { weight_bytes }] of all.report.workers.entries())
        expect(weight_bytes, 'their weights are counted').toBeGreaterThan(
          together.report.workers[rank]?.weight_bytes ?? 0,
        );
    } finally {
      await model.remove();
    }
  });
});
