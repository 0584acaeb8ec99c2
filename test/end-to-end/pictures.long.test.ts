/** Pictures made by real workers: the same for every world size, and the same that PyTorch's diffusers makes. */
import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { decode } from 'fast-png';
import { describe, expect, it } from 'vitest';
import { generate, parseClusterConfig } from '#tandem/coordinator/index.js';
import { type Golden, MODEL, psnr, readGolden, readPicture, temporaryModel } from '../pipeline/helpers.js';
import { fileDirectory } from '../support/directory.js';

const scratch = fileDirectory();

interface Wanted {
  readonly model: string;
  readonly worldSize: number;
  readonly wire?: 'fp32' | 'fp16';
  readonly golden: Golden;
}

const configFor = ({ model, worldSize, wire = 'fp32' }: Wanted) =>
  parseClusterConfig(
    [
      `model: ${JSON.stringify(model)}`,
      `shards: ${JSON.stringify(join(scratch, 'shards'))}`,
      'parallel: tensor',
      'devices:',
      ...Array.from({ length: worldSize }, () => '  - { provider: cpu, threads: 1 }'),
      `wire: { dtype: ${wire} }`,
      '',
    ].join('\n'),
    join(scratch, 'cluster.yaml'),
  );

/** RGB bytes of the picture that `worldSize` workers make of a golden's prompt and seed. */
const paint = async (wanted: Wanted): Promise<Uint8Array> => {
  const { golden } = wanted;
  const report = await generate({
    config: configFor(wanted),
    prompt: golden.prompt,
    negativePrompt: golden.negative_prompt,
    seed: golden.seed,
    numInferenceSteps: golden.num_inference_steps,
    guidanceScale: golden.guidance_scale,
    width: golden.width,
    height: golden.height,
    out: join(scratch, 'picture.png'),
  });
  expect(report.workers.map(({ rank }) => rank)).toEqual(Array.from({ length: wanted.worldSize }, (_, rank) => rank));
  return Uint8Array.from(decode(await readFile(report.file)).data);
};

describe('a picture', () => {
  it('is the same to 60 dB from one, two, three and four workers', async () => {
    const golden = readGolden('ddim');
    const alone = await paint({ model: MODEL, worldSize: 1, golden });
    for (const worldSize of [2, 3, 4]) {
      const together = await paint({ model: MODEL, worldSize, golden });
      expect(psnr(together, alone)).toBeGreaterThanOrEqual(60);
    }
  });

  it('is bit for bit the same when two workers make it again', async () => {
    const golden = readGolden('ddim');
    expect(await paint({ model: MODEL, worldSize: 2, golden })).toEqual(
      await paint({ model: MODEL, worldSize: 2, golden }),
    );
  });

  it.each(['ddim', 'ddim-guidance-1', 'euler', 'dpm-multistep', 'lcm', 'flow-match-euler'])(
    'from two workers is the one that diffusers makes, to 50 dB (%s)',
    async (name) => {
      const golden = readGolden(name);
      const model = await temporaryModel();
      try {
        await model.write('scheduler/scheduler_config.json', golden.scheduler);
        const picture = await paint({ model: model.directory, worldSize: 2, golden });
        expect(psnr(picture, readPicture(golden.picture.file))).toBeGreaterThanOrEqual(50);
      } finally {
        await model.remove();
      }
    },
  );

  it('keeps its look when activations travel as fp16', async () => {
    const golden = readGolden('ddim');
    const exact = await paint({ model: MODEL, worldSize: 2, golden });
    const rounded = await paint({ model: MODEL, worldSize: 2, wire: 'fp16', golden });
    expect(rounded).not.toEqual(exact);
    expect(psnr(rounded, exact)).toBeGreaterThanOrEqual(30);
  });
});
