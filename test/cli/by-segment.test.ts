/** `tandem verify --by-segment`: which tensor is the first that leaves the road. */
import { afterAll, expect, it } from 'vitest';
import { makeScratch, tandem } from './tandem.js';

const scratch = makeScratch();
afterAll(scratch.remove);

const MODEL = ['models/emoji-sd/unet/model.onnx', '--tensor-parallel-size', '2'];
const SIZES = ['batch_size=2', 'height=8', 'width=8', 'sequence_length=16'].flatMap((size) => ['--dim', size]);
const run = (...more: readonly string[]) =>
  tandem(['verify', ...MODEL, ...SIZES, '--by-segment', '--shards', scratch.path, '--json', ...more], scratch.path);

it('what two ranks have added up and joined is the whole model’s, sum by sum', async () => {
  const { status, stdout } = await run();
  expect(status).toBe(0);
  const { passed, compared, worst } = JSON.parse(stdout);
  expect(passed).toBe(true);
  expect(compared).toBeGreaterThan(20);
  expect(worst).toMatchObject({ against: 'whole model', error: expect.any(Number) });
});

it('under a limit below rounding the first sum that rounds is named, with its rank and segment', async () => {
  const { status, stdout } = await run('--tolerance', '1e-12');
  expect(status).toBe(1);
  expect(JSON.parse(stdout)).toMatchObject({
    passed: false,
    first: { rank: 0, tensor: expect.stringMatching(/@whole$/), file: expect.stringMatching(/^rank-0\/.*segment/) },
  });
});
