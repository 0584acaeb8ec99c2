/** `parallel`: whether the devices are all used, or as the plan predicts to be fastest. */
import { readFileSync, writeFileSync } from 'node:fs';
import { join, resolve } from 'node:path';
import { afterAll, describe, expect, it } from 'vitest';
import { testDirectory } from '../support/directory.js';
import { makePreparedScratch, start, tandem } from './tandem.js';

const scratch = makePreparedScratch();
afterAll(scratch.remove);

const MODEL = resolve('models/emoji-sd');
const TWO = 'devices: [{ provider: cpu, threads: 1 }, { provider: cpu, threads: 1 }]';

const configOf = (name: string, ...lines: string[]): string => {
  const file = join(scratch.path, `${name}.yaml`);
  writeFileSync(
    file,
    [`model: ${MODEL}`, TWO, ...lines, 'server: { port: 0 }', 'workers: { keep_warm_s: 0 }', ''].join('\n'),
  );
  return file;
};

const draw = async (config: string, out: string, cache = scratch.path) => {
  const args = ['generate', '--config', config, '--prompt', 'a red apple', '--num-inference-steps', '2', '--json'];
  const { status, stdout, stderr } = await tandem([...args, '--out', join(scratch.path, out)], cache);
  expect(status).toBe(0);
  return { report: JSON.parse(stdout), stderr };
};

const USING =
  /^Using (one device of 2 \(cpu, the 1\.\)|2 devices as guidance 2): the plan predicts [\d.e+]+ ms a step, against [\d.e+]+ ms /m;

describe('parallel: auto', () => {
  it('gives each device half of guidance where parts of tensors would be slower, says so, and says it again from memory', async () => {
    const config = configOf('auto');
    const empty = testDirectory();
    const first = await draw(config, 'auto.png', empty);
    expect(first.report.world_size).toBe(2);
    expect(USING.exec(first.stderr)?.[1]).toBe('2 devices as guidance 2');
    const again = await draw(config, 'again.png', empty);
    expect(USING.exec(again.stderr)?.[0]).toBe(USING.exec(first.stderr)?.[0]);
    expect(again.stderr).not.toMatch(/Partitioning|^plan: /m);
  });

  it('uses one device alone where there is no guidance to divide', async () => {
    const { report, stderr } = await draw(configOf('alone', 'defaults: { guidance_scale: 1 }'), 'alone.png');
    expect(report.world_size).toBe(1);
    expect(USING.exec(stderr)?.[1]).toBe('one device of 2 (cpu, the 1.)');
  });

  it('serves on one device, too', async () => {
    const config = configOf('served', 'defaults: { guidance_scale: 1 }');
    const { child, ended, printed } = start(['launch', config, '--json'], scratch.path);
    expect(JSON.parse(await printed(/\n\}\n$/))).toMatchObject({ ready: true, world_size: 1 });
    child.kill('SIGINT');
    expect((await ended).stderr).toMatch(USING);
  });
});

describe('parallel: tensor', () => {
  it('uses both devices, as the shipped config for two does', async () => {
    const { report, stderr } = await draw(configOf('tensor', 'parallel: tensor'), 'tensor.png');
    expect(report.world_size).toBe(2);
    expect(stderr).not.toMatch(/^Using /m);
    expect(readFileSync('configs/dual-cpu.yaml', 'utf8')).toMatch(/^parallel: tensor$/m);
  });

  it('beside another split is refused', async () => {
    const config = configOf('both', 'parallel: tensor', 'split: batch');
    const { status, stderr } = await tandem(['generate', '--config', config, '--prompt', 'x'], scratch.path);
    expect(status).toBe(1);
    expect(stderr).toMatch(/parallel: expected "batch", as split says; found "tensor"/);
  });
});
