/**
 * The WebGPU provider on a driver in software: SwiftShader, as Debian's chromium brings it. It shows what is wrong and what is right on
 * a device that is not the CPU, not how fast a GPU is. Where there is no such driver, the tests say so and there is nothing to run.
 */
import { existsSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, describe, expect, it, vi } from 'vitest';
import { launchCluster } from '#tandem/coordinator/cluster/index.js';
import { readManifest } from '#tandem/partition/write/read-manifest.js';
import { makeScratch, tandem } from '../cli/tandem.js';
import { dimsOf } from '../fixtures/families.js';
import { materialise } from '../fixtures/materialise.js';

const DRIVER = '/usr/lib/chromium/vk_swiftshader_icd.json';
const isHere = existsSync(DRIVER);
if (isHere) process.env.VK_DRIVER_FILES = process.env.VK_ICD_FILENAMES = DRIVER;
else console.info(`No WebGPU tests: they need a driver in software at ${DRIVER} (Debian: chromium, libvulkan1).`);

// Every shader is compiled, and then runs on one core.
vi.setConfig({ testTimeout: 600_000 });

const scratch = makeScratch();
afterAll(scratch.remove);

const TOLERANCE = 1e-3;
/** The whole model on one rank is as far from the CPU (1.7e-3): the driver's own arithmetic, and no part of the split. */
const TOLERANCES: Readonly<Record<string, number>> = { 'zimage-ts17': 3e-3 };
const SMALL = { batch_size: 2, height: 8, width: 8, sequence_length: 16 };

const verify = async (model: string, ranks: number, dims: Readonly<Record<string, number>>, tolerance = TOLERANCE) => {
  const sizes = Object.entries(dims).flatMap(([name, size]) => ['--dim', `${name}=${size}`]);
  const args = ['verify', model, '--tensor-parallel-size', String(ranks), '--provider', 'webgpu', ...sizes];
  const { status, stdout, stderr } = await tandem([...args, '--tolerance', String(tolerance), '--json'], scratch.path);
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
      expect(await verify(path, 2, dimsOf(name), TOLERANCES[name])).toMatchObject({ passed: true });
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
});
