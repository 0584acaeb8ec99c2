/** Pictures of every family made by real workers: diffusers' own, and the same for one worker and two. */
import { mkdtemp, readFile, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { decode } from 'fast-png';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { type GenerateReport, generate, parseClusterConfig } from '#tandem/coordinator/index.js';
import { type FamilyGolden, familyModel, readFamilyGolden } from '../pipeline/family-models.js';
import { psnr } from '../pipeline/helpers.js';

let scratch: string;

beforeAll(async () => {
  scratch = await mkdtemp(join(tmpdir(), 'tandem-families-'));
});

afterAll(() => rm(scratch, { recursive: true, force: true }));

const configFor = (model: string, worldSize: number) =>
  parseClusterConfig(
    [
      `model: ${JSON.stringify(model)}`,
      `shards: ${JSON.stringify(join(scratch, 'shards'))}`,
      'devices:',
      ...Array.from({ length: worldSize }, () => '  - { provider: cpu, threads: 1 }'),
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
): Promise<Painted> => {
  const report = await generate({ ...asked, config: configFor(model, worldSize), out: join(scratch, 'picture.png') });
  return { report, picture: Uint8Array.from(decode(await readFile(report.file)).data) };
};

const weightOf = ({ workers }: GenerateReport): number => Math.max(...workers.map(({ weight_bytes }) => weight_bytes));

describe('two workers paint what diffusers paints, and what one worker paints', () => {
  it.each([
    ['sdxl', 'guided'],
    ['sd3', 'guided'],
    ['flux', 'guided'],
    ['z-image', 'turbo'],
  ] as const)('%s', async (family, name) => {
    const golden = readFamilyGolden(family, name);
    const model = await familyModel(family);
    try {
      const alone = await paint(model.directory, 1, golden);
      const together = await paint(model.directory, 2, golden);
      expect(psnr(together.picture, golden.picture)).toBeGreaterThanOrEqual(50);
      expect(psnr(together.picture, alone.picture)).toBeGreaterThanOrEqual(60);
      expect(weightOf(together.report), 'the weights are split').toBeLessThan(0.75 * weightOf(alone.report));
      expect(together.report.warnings).toEqual([]);
    } finally {
      await model.remove();
    }
  });
});
