/** The model of real size that needs no download, through the built CLI; small latents, for its weights are what is big. */
import { closeSync, openSync, readdirSync, readSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, expect, it } from 'vitest';
import { makeScratch, tandem } from './tandem.js';

const scratch = makeScratch();
afterAll(scratch.remove);

const SMALL = ['--dim', 'height=16,width=16,batch_size=1'];
const run = (...args: string[]) => tandem(['bench', '--showcase', '--steps', '2', ...args], scratch.path);

/** The first bytes of the weights. */
const head = (): Buffer => {
  const file = openSync(join(scratch.path, 'shards', 'showcase-sd15', 'weights.bin'), 'r');
  const bytes = Buffer.alloc(1 << 20);
  readSync(file, bytes);
  closeSync(file);
  return bytes;
};

it('makes the model once and measures two devices on it', { timeout: 600_000 }, async () => {
  const shards = ['--shards', join(scratch.path, 'shards')];
  const args = [...SMALL, ...shards, '--tensor-parallel-size', '2', '--no-plain', '--json'];
  const { status, stdout, stderr } = await run(...args);
  expect(stderr).toContain('with weights from a seed');
  expect(status).toBe(0);
  const { runs, verdict } = JSON.parse(stdout);
  expect(runs).toMatchObject([{ world_size: 2, threads: 2 }]);
  // 860 M parameters in float32, split.
  expect(runs[0].workers[0].weight_bytes).toBeGreaterThan(1.6e9);
  expect(runs[0].workers[0].weight_bytes).toBeLessThan(1.9e9);
  expect(verdict).toContain('step');
  const made = head();
  const again = await run(...args);
  expect(again.stderr).not.toContain('with weights from a seed');
  expect(head()).toEqual(made);
  expect(readdirSync(join(scratch.path, 'shards')).filter((name) => name.startsWith('showcase'))).toEqual([
    'showcase-sd15',
  ]);
});

it('says what it cannot be given together', async () => {
  const { status, stderr } = await run('model.onnx');
  expect(status).toBe(2);
  expect(stderr).toContain('Expected one of a MODEL, --config files and --showcase; found several.');
});
