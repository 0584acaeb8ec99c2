import { cp, mkdir, readdir, rm, utimes, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { expect, it } from 'vitest';
import { modelFacts } from '#tandem/coordinator/shards/model-facts.js';
import { inspect } from '#tandem/partition/index.js';
import { errorOf } from '../cluster/helpers.js';
import { materialise } from '../fixtures/materialise.js';
import { testDirectory } from '../support/directory.js';

it('are what the graph says, also when they are remembered', async () => {
  const scratch = testDirectory();
  const model = await materialise('tiny-ts17', scratch);
  const read = await modelFacts(model, scratch);
  const { inputs, files } = await inspect(model);
  expect(read.inputs).toEqual(inputs);
  expect(read.files.map(({ path }) => path)).toEqual([...files].sort());
  expect(read.files.length).toBeGreaterThan(1);
  expect(await modelFacts(model, scratch)).toEqual(read);
  // A file that has only just been written may change once more without a trace.
  await delay(2_100);
  expect(await modelFacts(model, scratch)).toEqual(read);
  expect(await readdir(join(scratch, 'models'))).toHaveLength(1);
});

it('are read again when a file of the model has changed, and miss what is gone', async () => {
  const scratch = testDirectory();
  const model = await materialise('tiny-ts17', scratch);
  const before = await modelFacts(model, scratch);
  const weights = join(scratch, 'weights.bin');
  await utimes(weights, new Date(), new Date(Date.now() + 5_000));
  const after = await modelFacts(model, scratch);
  expect(after.inputs).toEqual(before.inputs);
  expect(after.files).not.toEqual(before.files);
  await rm(weights);
  expect((await errorOf(modelFacts(model, scratch))).code).toBe('WEIGHTS_MISSING');
});

it('are those of the model that is there, not of the one that was', async () => {
  const scratch = testDirectory();
  const model = join(scratch, 'model.onnx');
  await cp('models/emoji-sd/unet/model.onnx', model);
  const unet = await modelFacts(model, scratch);
  await cp('models/emoji-sd/vae_decoder/model.onnx', model);
  expect((await modelFacts(model, scratch)).inputs).not.toEqual(unet.inputs);
  await writeFile(model, 'no model');
  expect((await errorOf(modelFacts(model, scratch))).code).toMatch(/^MODEL_/);
});

it('are found out every time where they cannot be remembered', async () => {
  const scratch = testDirectory();
  const root = join(scratch, 'root');
  await mkdir(root);
  await writeFile(join(root, 'models'), 'in the way');
  const model = 'models/emoji-sd/unet/model.onnx';
  expect(await modelFacts(model, root)).toEqual(await modelFacts(model, root));
});
