import { existsSync, readFileSync, writeFileSync } from 'node:fs';
import { join, resolve } from 'node:path';
import { decode } from 'fast-png';
import { afterAll, describe, expect, it } from 'vitest';
import { testDirectory } from '../support/directory.js';
import { isAlive, makePreparedScratch, start, tandem } from './tandem.js';

const scratch = makePreparedScratch();
afterAll(scratch.remove);

const generateIn = (cache: string, config: string, out: string, ...more: string[]) =>
  tandem(
    ['generate', '--config', config, '--prompt', 'a red apple', '--num-inference-steps', '2', '--out', out, ...more],
    cache,
  );

const generate = (config: string, out: string, ...more: string[]) => generateIn(scratch.path, config, out, ...more);

/** Peak signal to noise of two 8-bit pictures, in dB. */
const psnr = (a: ArrayLike<number>, b: ArrayLike<number>): number => {
  let squares = 0;
  for (let index = 0; index < a.length; index++) squares += ((a[index] ?? 0) - (b[index] ?? 0)) ** 2;
  return 10 * Math.log10(255 ** 2 / Math.max(1e-12, squares / a.length));
};

describe('tandem generate', () => {
  it('makes the same picture with two workers as with one, and reuses the shards', async () => {
    const [single, dual, again] = ['single.png', 'dual.png', 'again.png'].map((name) => join(scratch.path, name));
    if (!single || !dual || !again) throw new Error('unreachable');
    const empty = testDirectory();
    expect((await generate('configs/single-cpu.yaml', single)).status).toBe(0);
    const first = await generateIn(empty, 'configs/dual-cpu.yaml', dual, '--json');
    expect(first.status).toBe(0);
    expect(first.stderr).toMatch(/Partitioning emoji-sd into .* \(none are prepared yet\)/);
    const report = JSON.parse(first.stdout);
    expect(report).toMatchObject({
      file: dual,
      width: 64,
      height: 64,
      seed: 0,
      world_size: 2,
      num_inference_steps: 2,
    });
    expect(report.timings.step_ms).toHaveLength(2);
    for (const key of ['partition_ms', 'load_ms', 'text_encode_ms', 'denoise_ms', 'vae_decode_ms']) {
      expect(report.timings[key]).toBeGreaterThan(0);
    }
    expect(report.workers.map((worker: { rank: number }) => worker.rank)).toEqual([0, 1]);
    for (const worker of report.workers) {
      expect(worker.peak_private_bytes).toBeGreaterThan(1e6);
      expect(isAlive(worker.pid)).toBe(false);
    }
    const pictures = [single, dual].map((file) => decode(readFileSync(file)));
    expect(psnr(pictures[0]?.data ?? [], pictures[1]?.data ?? [])).toBeGreaterThan(60);

    const second = await generateIn(empty, 'configs/dual-cpu.yaml', again);
    expect(second.stderr).toMatch(/Reusing the shards in /);
    expect(second.stdout).toMatch(/Wrote .*again\.png \(64x64, seed 0, ddim\)/);
    expect(readFileSync(again).equals(readFileSync(dual))).toBe(true);
  });

  it('follows the options for size, guidance and scheduler', async () => {
    const out = join(scratch.path, 'small.png');
    const options = [
      '--width',
      '128',
      '--height',
      '64',
      '--guidance-scale',
      '1',
      '--scheduler',
      'euler',
      '--seed',
      '3',
    ];
    const { status, stdout } = await generate('configs/single-cpu.yaml', out, ...options, '--json');
    expect(status).toBe(0);
    expect(JSON.parse(stdout)).toMatchObject({
      width: 128,
      height: 64,
      guidance_scale: 1,
      scheduler: 'euler',
      seed: 3,
    });
    expect(decode(readFileSync(out))).toMatchObject({ width: 128, height: 64 });
  });

  it('refuses what cannot work before any work is done', async () => {
    const size = await generate('configs/dual-cpu.yaml', join(scratch.path, 'x.png'), '--width', '102');
    expect(size).toMatchObject({
      status: 1,
      stderr: expect.stringMatching(/width must be a multiple of 16; found 102, nearest are 96 and 112/),
    });
    const out = await generate('configs/dual-cpu.yaml', join(scratch.path, 'none', 'x.png'));
    expect(out).toMatchObject({ status: 1, stderr: expect.stringMatching(/Expected a directory at .*none, to write/) });
    const format = await generate('configs/dual-cpu.yaml', join(scratch.path, 'x.gif'));
    expect(format).toMatchObject({
      status: 1,
      stderr: expect.stringMatching(/to end in \.png, \.jpg, \.jpeg, \.webp; found \.gif/),
    });
  });

  it.each([
    { name: 'apple.jpg', begins: /^\xff\xd8\xff/ },
    { name: 'apple.webp', begins: /^RIFF.{4}WEBP/s },
  ])('writes the format that the name asks for: $name', async ({ name, begins }) => {
    const out = join(scratch.path, name);
    expect((await generate('configs/single-cpu.yaml', out)).status).toBe(0);
    expect(readFileSync(out).toString('latin1')).toMatch(begins);
  });

  it('stops at Ctrl-C with status 130, writes no picture and leaves no process', async () => {
    const out = join(scratch.path, 'never.png');
    const args = [
      'generate',
      '--config',
      'configs/dual-cpu.yaml',
      '--prompt',
      'x',
      '--num-inference-steps',
      '500',
      '--out',
      out,
    ];
    const { child, ended } = start([...args, '--verbose'], scratch.path);
    setTimeout(() => child.kill('SIGINT'), 4_000);
    const { status, stderr } = await ended;
    expect(status).toBe(130);
    expect(stderr).toMatch(/Cancelled\.\n/);
    expect(existsSync(out)).toBe(false);
  });
});

describe('tandem launch', () => {
  /** The shipped config on a free port, with workers that are neither kept nor replaced. */
  const launch = async () => {
    const config = join(scratch.path, 'launch.yaml');
    const shipped = readFileSync('configs/dual-cpu.yaml', 'utf8').replace('../models', resolve('models'));
    writeFileSync(config, `${shipped}\nserver: { port: 0 }\nworkers: { keep_warm_s: 0, max_restarts: 0 }\n`);
    const running = start(['launch', config, '--json'], scratch.path);
    const report = JSON.parse(await running.printed(/\n\}\n$/));
    const pids: number[] = report.workers.map((worker: { pid: number }) => worker.pid);
    expect(report).toMatchObject({ ready: true, world_size: 2 });
    expect(pids.every(isAlive)).toBe(true);
    return { ...running, pids };
  };

  it('says when the workers are ready, stays, and stops all of them at Ctrl-C', async () => {
    const { child, ended, pids } = await launch();
    await new Promise((next) => setTimeout(next, 300));
    expect(child.exitCode).toBeNull();
    child.kill('SIGINT');
    expect((await ended).status).toBe(130);
    expect(pids.some(isAlive)).toBe(false);
  });

  it('ends with an error that names the rank when a worker is killed, and stops the other', async () => {
    const { ended, pids } = await launch();
    const [, second] = pids;
    if (second === undefined) throw new Error('Expected two workers.');
    process.kill(second, 'SIGKILL');
    const { status, stderr } = await ended;
    expect(status).toBe(1);
    expect(stderr).toMatch(/error: .*rank 1/);
    expect(pids.some(isAlive)).toBe(false);
  });
});
