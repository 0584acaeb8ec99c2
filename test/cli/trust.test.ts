/** Small things that a first hour with the command line meets, through the built command line. */
import { mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { decode } from 'fast-png';
import { afterAll, describe, expect, it } from 'vitest';
import { makePreparedScratch, SHIPPED_DIMS, tandem } from './tandem.js';

const scratch = makePreparedScratch();
afterAll(scratch.remove);

const run = (...args: string[]) => tandem(args, scratch.path);

const draw = (prompt: string, ...more: string[]) =>
  run('generate', '--config', 'configs/single-cpu.yaml', '--prompt', prompt, '--num-inference-steps', '1', ...more);

describe('a mistyped option', () => {
  it('is answered by the one that was meant', async () => {
    const { status, stderr } = await run('generate', '--config', 'configs/single-cpu.yaml', '--promt', 'x');
    expect(status).toBe(2);
    expect(stderr).toMatch(/unknown option '--promt'\n\(Did you mean --prompt\?\)/);
  });

  it('is told as missing where it was left out', async () => {
    expect(await run('partition', 'models/emoji-sd')).toMatchObject({
      status: 2,
      stderr: expect.stringMatching(/required option '--out <dir>' not specified/),
    });
  });
});

describe('a prompt', () => {
  it('without a word is refused', async () => {
    expect(await draw('  ')).toMatchObject({
      status: 1,
      stderr: expect.stringMatching(/^error: Expected a prompt that says what the picture should show; found none\.$/m),
    });
  });

  it('with the marks of other programs is drawn with a warning for each, and its seed is told', async () => {
    const out = join(scratch.path, 'marks.png');
    const { status, stdout, stderr } = await draw('a (red:1.4) apple <lora:shiny:0.8> BREAK leaf', '--out', out);
    expect(status).toBe(0);
    for (const mark of ['(red:1.4)', '<lora:shiny:0.8>', 'BREAK'])
      expect(stderr).toContain(`The prompt has "${mark}", which is read as words`);
    expect(stdout).toMatch(/seed 0, ddim/);
    expect(decode(readFileSync(out)).text.parameters).toMatch(/^a \(red:1\.4\) apple .*\nSteps: 1, .*Seed: 0, /);
  });

  it('with a word that the shipped model never met is drawn with what it knows instead', async () => {
    const { status, stderr } = await draw('a blue whale', '--out', join(scratch.path, 'whale.png'));
    expect(status).toBe(0);
    expect(stderr).toMatch(/note: The model has never met "whale": it knows 64 things\. Nearest .*"a blue car"/);
    const mistyped = await draw('a red aple', '--out', join(scratch.path, 'aple.png'));
    expect(mistyped.stderr).toMatch(/never met "aple": .* Nearest to the prompt are "a red apple"/);
    const known = await draw(
      'please draw the red apple on a white background',
      '--out',
      join(scratch.path, 'known.png'),
    );
    expect(known.stderr).not.toMatch(/never met/);
  });

  it('that is too long is cut before a word, and told so in its own letters', async () => {
    const prompt = `a red apple ${'and a Strawberry '.repeat(12)}beside a Pineapple`;
    const { stderr } = await draw(prompt, '--out', join(scratch.path, 'long.png'));
    const left = /this part of it was left out: "(.*)"\./.exec(stderr)?.[1] ?? '';
    expect(left).toMatch(/beside a Pineapple$/);
    expect(prompt).toContain(` ${left}`);
    const book = await draw('a unicorn '.repeat(2000), '--out', join(scratch.path, 'long.png'));
    expect(book.status).toBe(0);
    expect(book.stderr).toMatch(/left out: "[a-z ]{100,300} \[\.\.\.\] [a-z ]{100,300}"\./);
  });
});

describe('a device that the machine lacks', () => {
  it('is told before anything is split for it, and without a place in C++ sources', async () => {
    const args = ['verify', 'models/emoji-sd', '--tensor-parallel-size', '2', ...SHIPPED_DIMS];
    const { status, stderr } = await run(...args, '--provider', process.platform === 'darwin' ? 'cuda' : 'coreml');
    expect(status).toBe(1);
    expect(stderr).toMatch(/^error: Provider "\w+" cannot run on this machine: /m);
    expect(stderr).not.toMatch(/Partitioning/);
  });

  it.runIf(process.platform === 'linux')('is told so where only its libraries are missing', async () => {
    const config = join(scratch.path, 'webgpu.yaml');
    const model = join(process.cwd(), 'models/emoji-sd');
    writeFileSync(config, `model: ${model}\nparallel: tensor\ndevices: [{ provider: webgpu }, { provider: cpu }]\n`);
    const { status, stderr } = await tandem(['generate', '--config', config, '--prompt', 'x'], scratch.path, {
      VK_DRIVER_FILES: '/none',
      VK_ICD_FILENAMES: '/none',
    });
    expect(status).toBe(1);
    expect(stderr).toMatch(/^error: Provider "webgpu" cannot run on this machine: /m);
    expect(stderr).not.toMatch(/Partitioning|\.cc:\d+|onnxruntime::/);
  });
});

describe('a model that was not exported', () => {
  it('is answered with the command that exports it: a name on a hub', async () => {
    const { status, stderr } = await run('plan', 'stabilityai/sdxl-turbo', '--tensor-parallel-size', '2');
    expect(status).toBe(1);
    expect(stderr).toContain('optimum-cli export onnx --model stabilityai/sdxl-turbo sdxl-turbo-onnx');
    const config = join(scratch.path, 'hub.yaml');
    writeFileSync(config, 'model: stabilityai/sdxl-turbo\ndevices: [{ provider: cpu }]\n');
    const { stderr: said } = await run('generate', '--config', config, '--prompt', 'x');
    expect(said).toContain('optimum-cli export onnx --model stabilityai/sdxl-turbo sdxl-turbo-onnx');
  });

  it('is answered with the command that exports it: a directory of PyTorch weights', async () => {
    const directory = join(scratch.path, 'tiny');
    mkdirSync(join(directory, 'unet'), { recursive: true });
    writeFileSync(join(directory, 'unet', 'diffusion_pytorch_model.safetensors'), '');
    const { status, stderr } = await run('plan', directory, '--tensor-parallel-size', '2');
    expect(status).toBe(1);
    expect(stderr).toContain(`optimum-cli export onnx --model ${directory} tiny-onnx`);
  });
});
