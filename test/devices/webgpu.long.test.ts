/**
 * The WebGPU provider on a driver in software: SwiftShader, as Debian's chromium brings it. It shows what is wrong and what is right on
 * a device that is not the CPU, not how fast a GPU is. Where there is no such driver, the tests say so and there is nothing to run.
 */
import { readFileSync, writeFileSync } from 'node:fs';
import { join, resolve } from 'node:path';
import { decode } from 'fast-png';
import { afterAll, describe, expect, it, vi } from 'vitest';
import { launchCluster } from '#tandem/coordinator/cluster/index.js';
import { readManifest } from '#tandem/partition/write/read-manifest.js';
import { makeScratch, tandem } from '../cli/tandem.js';
import { dimsOf } from '../fixtures/families.js';
import { materialise } from '../fixtures/materialise.js';
import { hasDriver } from './driver.js';

const isHere = hasDriver('WebGPU tests');

// Every shader is compiled, and then runs on one core.
vi.setConfig({ testTimeout: 600_000 });

const scratch = makeScratch();
afterAll(scratch.remove);

const TOLERANCE = 1e-3;
const SMALL = { batch_size: 2, height: 8, width: 8, sequence_length: 16 };

const verify = async (model: string, ranks: number, dims: Readonly<Record<string, number>>) => {
  const sizes = Object.entries(dims).flatMap(([name, size]) => ['--dim', `${name}=${size}`]);
  const args = ['verify', model, '--tensor-parallel-size', String(ranks), '--provider', 'webgpu', ...sizes];
  const { status, stdout, stderr } = await tandem([...args, '--tolerance', String(TOLERANCE), '--json'], scratch.path);
  if (status !== 0) throw new Error(stderr);
  return JSON.parse(stdout);
};

describe.runIf(isHere)('WebGPU', () => {
  it.each([1, 2, 3, 4])('computes a UNet on %i ranks as the CPU does', async (ranks) => {
    const report = await verify('models/emoji-sd/unet/model.onnx', ranks, SMALL);
    expect(report).toMatchObject({ passed: true, ranks_agree: true });
  });

  it.each(['sdxl-ts17', 'sd3-ts17', 'flux-ts17', 'zimage-ts17'])(
    'computes %s on two ranks as the CPU does',
    async (name) => {
      const path = await materialise(`families/${name}`, join(scratch.path, name));
      expect(await verify(path, 2, dimsOf(name))).toMatchObject({ passed: true });
    },
  );

  it('refuses by its name what it gets wrong: segments that were planned for CPUs give it convolutions of 18 channels', async () => {
    const shards = join(scratch.path, 'for-cpus');
    const dims = Object.entries(SMALL).flatMap(([name, size]) => ['--dim', `${name}=${size}`]);
    const args = ['partition', 'models/emoji-sd/unet/model.onnx', '--tensor-parallel-size', '2', ...dims];
    expect(await tandem([...args, '--no-prepare', '--out', shards], scratch.path)).toMatchObject({ status: 0 });
    const manifest = await readManifest(shards);
    const launched = launchCluster({
      shardDirectory: shards,
      manifest,
      profile: manifest.profiles[0]?.name ?? '',
      devices: [0, 1].map(() => ({ provider: 'webgpu' as const, deviceId: 0, threads: 1 })),
      timeouts: { loadMs: 400_000, heartbeatMs: 60_000 },
    });
    await expect(launched).rejects.toThrow(/computes segment ".*" wrongly.* is node ".*", Conv of float32 \[2, 18, /s);
  });

  const configOf = (name: string, providers: readonly string[], more = ''): string => {
    const file = join(scratch.path, `${name}.yaml`);
    const devices = providers.map((provider) => `  - { provider: ${provider}, threads: 1 }`).join('\n');
    const lines = [`model: ${resolve('models/emoji-sd')}`, 'parallel: tensor', 'devices:', devices];
    writeFileSync(file, [...lines, 'timeouts: { load_s: 900, step_s: 900, heartbeat_s: 60 }', more, ''].join('\n'));
    return file;
  };

  const picture = async (name: string, providers: readonly string[]): Promise<Uint8Array> => {
    const out = join(scratch.path, `${name}.png`);
    const args = ['generate', '--config', configOf(name, providers), '--prompt', 'a red apple', '--seed', '1'];
    const made = await tandem([...args, '--num-inference-steps', '1', '--out', out], scratch.path);
    expect(made).toMatchObject({ status: 0 });
    return decode(readFileSync(out)).data as Uint8Array;
  };

  it('two WebGPU workers, and a CPU with a WebGPU worker, make the picture that two CPUs make', async () => {
    const expected = await picture('cpus', ['cpu', 'cpu']);
    for (const [name, providers] of [
      ['webgpu', ['webgpu', 'webgpu']],
      ['mixed', ['cpu', 'webgpu']],
    ] as const) {
      const found = await picture(name, providers);
      const squares = found.reduce((sum, value, index) => sum + (value - (expected[index] ?? 0)) ** 2, 0);
      expect(10 * Math.log10((255 * 255 * found.length) / Math.max(1e-9, squares))).toBeGreaterThan(45);
    }
  });

  it('an fp16 wire is refused before anything is made where the device has no half precision', async () => {
    const config = configOf('half', ['webgpu', 'webgpu'], 'wire: { dtype: fp16 }');
    const args = ['generate', '--config', config, '--prompt', 'an apple', '--out', join(scratch.path, 'none.png')];
    const { status, stderr } = await tandem(args, scratch.path);
    expect(status).toBe(1);
    expect(stderr).toMatch(/Expected half precision of device 0 of provider "webgpu".*Set wire\.dtype to fp32/s);
  });

  it('segment by segment it stays on the road, and a limit that nothing keeps names the tensor and its segment', async () => {
    const path = await materialise('families/zimage-ts17', join(scratch.path, 'walked'));
    const args = ['verify', path, '--tensor-parallel-size', '1', '--provider', 'webgpu', '--by-segment', '--json'];
    const kept = await tandem([...args, '--tolerance', '1e-3'], scratch.path);
    expect(JSON.parse(kept.stdout)).toMatchObject({ passed: true, first: null });
    const left = await tandem([...args, '--tolerance', '1e-12'], scratch.path);
    expect(left.status).toBe(1);
    expect(JSON.parse(left.stdout).first).toMatchObject({
      rank: 0,
      against: 'cpu',
      file: expect.stringMatching(/segment/),
    });
  });
});
