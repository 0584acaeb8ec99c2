/** What ONNX Runtime says when memory runs out, told with the segment's name and sizes. */
import { expect, it } from 'vitest';
import { openSession } from '#tandem/common/onnxruntime.js';
import { createGraph, createModel, createNode, createValueInfo, encodeModel } from '#tandem/partition/onnx/index.js';
import { outOfMemory } from '#tandem/shard-worker/device-memory.js';

const ENTRY = {
  file: 'rank-0/segment-003.onnx',
  inputs: ['shape'],
  outputs: [{ name: 'large', dtype: 'float32' as const, shape: [4096, 4096] }],
  sends: [],
  receives: [],
  release: [],
};

/** Asks the CPU for 2^46 numbers. */
const failingRun = async (): Promise<unknown> => {
  const node = createNode({ name: 'fill', opType: 'ConstantOfShape', input: ['shape'], output: ['large'] });
  const graph = createGraph({
    name: 'large',
    node: [node],
    input: [createValueInfo('shape', 7, [2])],
    output: [createValueInfo('large', 1, [null, null])],
  });
  const bytes = encodeModel(createModel({ irVersion: 8n, opsetImport: [{ domain: '', version: 17n }], graph }));
  const session = await openSession(bytes, { provider: 'cpu', optimization: 'disabled' });
  const data = new Uint8Array(BigInt64Array.of(2n ** 23n, 2n ** 23n).buffer);
  try {
    return await session.run({ shape: { dtype: 'int64', shape: [2], data } }).then(
      () => undefined,
      (error: unknown) => error,
    );
  } finally {
    await session.dispose();
  }
};

it('an allocation that fails is told by segment, bytes and what to do', async () => {
  const error = outOfMemory(await failingRun(), 'run', ENTRY, 1000);
  expect(error?.code).toBe('DEVICE_MEMORY');
  expect(error?.message).toMatch(
    /memory to run segment "rank-0\/segment-003\.onnx", which makes 67108864 bytes, 1000 bytes of weights of this rank in all; .+ Use more devices/s,
  );
});

it('any other failure stays what it is', () => {
  expect(outOfMemory(new Error('Non-zero status code returned while running Conv'), 'run', ENTRY)).toBeUndefined();
});
