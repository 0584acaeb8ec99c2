/** Small real exports of the model families give on groups of real workers what they give whole. */
import { join } from 'node:path';
import { expect, it, vi } from 'vitest';
import { compareOutputs } from '#tandem/common/compare.js';
import { DEFAULT_TIMEOUTS } from '#tandem/coordinator/cluster/index.js';
import { prepareMesh, withMesh } from '#tandem/coordinator/mesh/index.js';
import { openPlainModel } from '#tandem/coordinator/plain/index.js';
import { findDenoiserModel } from '#tandem/coordinator/shards/model.js';
import { randomInputs } from '#tandem/coordinator/verify/random-inputs.js';
import { dimsOf } from '../fixtures/families.js';
import { materialise } from '../fixtures/materialise.js';
import { fileDirectory } from '../support/directory.js';

const DIRECTORY = fileDirectory();

// A busy machine.
vi.setConfig({ testTimeout: 180_000 });

const ONE = { tensor: 1, tokens: 1, guidance: 1, pipeline: 1, replicas: 1 };

const CASES = [
  ['sdxl-dynamo23', { ...ONE, pipeline: 2 }],
  ['sd-optimum18', { ...ONE, pipeline: 3 }],
  ['sd3-ts14', { ...ONE, pipeline: 2 }],
  ['flux-ts17', { ...ONE, pipeline: 4 }],
  ['pixart-dynamo18', { ...ONE, pipeline: 2, tensor: 2 }],
  ['zimage-dynamo23', { ...ONE, pipeline: 3 }],
  ['dit-dynamo23', { ...ONE, pipeline: 2, guidance: 2 }],
  ['sd35-dynamo23', { ...ONE, replicas: 2, tensor: 2 }],
  // Sizes that ranks do not divide: 10 tokens of text on three and four, 16 rows and 64 tokens of a picture on three.
  ...[
    'sd3-ts14',
    'flux-ts17',
    'pixart-dynamo18',
    'zimage-dynamo23',
    'lumina2-ts17',
    'dit-dynamo23',
    'sdxl-ts17',
    'sd-optimum18',
  ].flatMap((name) => [2, 3, 4].map((tokens) => [name, { ...ONE, tokens }] as const)),
  ['sd35-ts17', { ...ONE, tokens: 2, guidance: 2 }],
  ['sdxl-dynamo23', { ...ONE, tokens: 2, pipeline: 2 }],
] as const;

const settingsOf = (mesh: typeof ONE) => ({
  devices: Array.from({ length: mesh.tensor * mesh.tokens * mesh.guidance * mesh.pipeline * mesh.replicas }, () => ({
    provider: 'cpu' as const,
    deviceId: 0,
    threads: 1,
    // So slow that the planner splits whatever can be.
    ...(mesh.tokens > 1 ? { speed: 0.01 } : {}),
  })),
  wire: { dtype: 'fp32' as const, transport: 'auto' as const },
  quantize: 'none' as const,
  split: 'tensor' as const,
  placement: {},
  loader: 'auto' as const,
  shards: join(DIRECTORY, 'shards'),
  calibration: join(DIRECTORY, 'calibration.json'),
  timeouts: DEFAULT_TIMEOUTS,
  mesh,
});

it.each(CASES)('%s as %o', async (name, mesh) => {
  const model = findDenoiserModel(await materialise(`families/${name}`, join(DIRECTORY, name)));
  const settings = settingsOf(mesh);
  const ready = await prepareMesh(settings, { model, dims: dimsOf(name), networks: [] }, {});
  await withMesh(ready, settings, {}, async ({ workers }) => {
    const { inputs } = workers.network();
    const runs = [1, 2, 3].map((seed) => randomInputs(inputs, seed));
    const { outputs, ranks } = await workers.step(runs, { everywhere: true });
    expect(ranks).toHaveLength(settings.devices.length);
    const again = await Promise.all(runs.map((run) => workers.network().step(run)));
    expect(again).toEqual(outputs);
    const plain = await openPlainModel({
      model: model.path,
      provider: 'cpu',
      deviceId: 0,
      threads: 1,
      timeouts: DEFAULT_TIMEOUTS,
    });
    for (const [index, run] of runs.entries()) {
      const expected = (await plain.step(run, { wantOutputs: true })).outputs;
      expect(compareOutputs(outputs[index] ?? {}, expected).max_rel_error).toBeLessThanOrEqual(1e-4);
    }
    await plain.close();
  });
});
