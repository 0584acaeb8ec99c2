/** Groups of devices by the built CLI: the picture is that of one device, to the byte. */
import { readFileSync, writeFileSync } from 'node:fs';
import { join, resolve } from 'node:path';
import { afterAll, expect, it, vi } from 'vitest';
import { makeScratch, tandem } from './tandem.js';

// A busy machine.
vi.setConfig({ testTimeout: 180_000 });

const scratch = makeScratch();
afterAll(scratch.remove);

const draw = async (name: string, devices: number, parallel: string, ...more: string[]) => {
  const config = join(scratch.path, `${name}.yaml`);
  const list = Array.from({ length: devices }, () => '{ provider: cpu, threads: 1 }').join(', ');
  writeFileSync(config, `model: ${resolve('models/emoji-sd')}\ndevices: [${list}]\nparallel: ${parallel}\n`);
  const out = join(scratch.path, `${name}.png`);
  const asked = ['--prompt', 'a red apple', '--seed', '7', '--num-inference-steps', '4', '--guidance-scale', '3'];
  const { status, stdout } = await tandem(
    ['generate', '--config', config, ...asked, ...more, '--out', out, '--json'],
    scratch.path,
  );
  expect(status).toBe(0);
  const weights: number[] = JSON.parse(stdout).workers.map((worker: { weight_bytes: number }) => worker.weight_bytes);
  return { picture: readFileSync(out), weights };
};

it('draws the same picture in a pipeline as on one device, with half of the weights a rank', async () => {
  const one = await draw('one', 1, 'tensor');
  for (const stages of [2, 3]) {
    const pipeline = await draw(`pipeline-${stages}`, stages, `{ pipeline: ${stages} }`);
    expect(pipeline.picture.equals(one.picture)).toBe(true);
    expect(Math.max(...pipeline.weights) / (one.weights[0] ?? 0)).toBeLessThan(1.1 / stages);
  }
  const replicas = await draw('replicas', 2, '{ replicas: 2 }');
  expect(replicas.picture.equals(one.picture)).toBe(true);
});

it('draws the same picture with a device for each pass of guidance as on one device that takes them one at a time', async () => {
  const one = await draw('apart', 1, 'tensor', '--dim', 'batch_size=1');
  const guidance = await draw('guidance', 2, '{ guidance: 2 }');
  expect(guidance.picture.equals(one.picture)).toBe(true);
});

it.each([2, 3, 4])('gives by tokens on %i devices what the whole model gives, and draws', async (count) => {
  const shards = join(scratch.path, 'shards');
  const devices = ['--tensor-parallel-size', String(count), '--split', 'tokens', '--threads', '1'];
  const { status, stdout } = await tandem(
    ['verify', resolve('models/emoji-sd'), ...devices, '--shards', shards, '--json'],
    scratch.path,
  );
  expect(status).toBe(0);
  expect(JSON.parse(stdout)).toMatchObject({ passed: true, ranks_agree: true });
  const one = await draw('whole', 1, 'tensor');
  const { weights } = await draw(`tokens-${count}`, count, `{ tokens: ${count} }`);
  expect(Math.min(...weights) / (one.weights[0] ?? 0)).toBeGreaterThan(0.99);
});
