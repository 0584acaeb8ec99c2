import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { openPlainModel, type PlainRequest } from '#tandem/coordinator/plain/index.js';
import { randomInputs } from '#tandem/coordinator/verify/random-inputs.js';
import { inspect } from '#tandem/partition/index.js';
import { fileDirectory } from '../support/directory.js';
import { isAlive } from '../support/processes.js';

const scratch = fileDirectory();

const SIZES: Readonly<Record<string, number>> = { batch_size: 1, height: 16, width: 16, sequence_length: 77 };
const { inputs } = await inspect('models/emoji-sd/unet/model.onnx');
const INPUTS = randomInputs(
  inputs.map(({ name, dtype, shape }) => ({
    name,
    dtype,
    shape: shape.map((size) => (typeof size === 'number' ? size : (SIZES[size] ?? 1))),
  })),
  0,
);

const open = (changes: Partial<PlainRequest> = {}) =>
  openPlainModel({
    model: 'models/emoji-sd/unet/model.onnx',
    provider: 'cpu',
    deviceId: 0,
    threads: 1,
    timeouts: { loadMs: 60_000, stepMs: 60_000 },
    ...changes,
  });

describe('the plain model', () => {
  it('runs the whole model in a process of its own, and tells what memory it took', async () => {
    const model = await open();
    const { outputs } = await model.step(INPUTS, { wantOutputs: true });
    expect(outputs.out_sample).toMatchObject({ dtype: 'float32', shape: [1, 4, 16, 16] });
    expect((await model.step(INPUTS, { wantOutputs: false })).outputs).toEqual({});
    expect(model.memory().peak_private_bytes).toBeGreaterThan(1e6);
    await model.close();
    expect(isAlive(model.pid)).toBe(false);
  });

  it('says what ONNX Runtime says of a file that it cannot open', async () => {
    const file = join(scratch, 'broken.onnx');
    writeFileSync(file, 'not a model');
    await expect(open({ model: file })).rejects.toMatchObject({
      code: 'PLAIN_FAILED',
      message: expect.stringMatching(/broken\.onnx/),
    });
  });

  it('is an error when its process is killed, not a wait', async () => {
    const model = await open();
    const step = model.step(INPUTS, { wantOutputs: true });
    process.kill(model.pid, 'SIGKILL');
    await expect(step).rejects.toMatchObject({
      code: 'PLAIN_FAILED',
      message: expect.stringMatching(/its process ended \(SIGKILL\)/),
    });
    await model.close();
  });

  it('ends when the caller cancels', async () => {
    const controller = new AbortController();
    const model = await open({ signal: controller.signal });
    const step = model.step(INPUTS, { wantOutputs: true });
    controller.abort(new Error('enough'));
    await expect(step).rejects.toThrow('enough');
    await model.close();
    expect(isAlive(model.pid)).toBe(false);
  });
});
