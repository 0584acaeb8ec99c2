/** Float16 tensors through ONNX Runtime, on whichever Node runs this: from 23 on there is a global Float16Array. */
import { resolve } from 'node:path';
import { describe, expect, it } from 'vitest';
import { fromNumbers, toNumbers } from '#tandem/common/elements.js';
import { type LocalSession, openSession, type TensorMetadata } from '#tandem/common/onnxruntime.js';
import type { HostTensor, TensorSpec } from '#tandem/common/tensor.js';

const segment = (index: number): Promise<LocalSession> =>
  openSession(resolve(`test/fixtures/exchange/mlp-2-fp16/rank-0/segment-${index}.onnx`), {
    provider: 'cpu',
    optimization: 'basic',
  });

const specOf = ({ name, dtype, shape }: TensorMetadata): TensorSpec => ({ name, dtype, shape: shape.map(Number) });

const filled = (metadata: TensorMetadata, seed: number): HostTensor => {
  const spec = specOf(metadata);
  const count = spec.shape.reduce((product, size) => product * size, 1);
  return fromNumbers(
    spec,
    Array.from({ length: count }, (_, index) => Math.sin(seed + index)),
  );
};

/** The same tensor in the middle of a longer buffer, as a tensor of a message is. */
const inside = (tensor: HostTensor): HostTensor => {
  const data = new Uint8Array(tensor.data.byteLength + 64).subarray(32, 32 + tensor.data.byteLength);
  data.set(tensor.data);
  return { ...tensor, data };
};

const feedsOf = (session: LocalSession): Record<string, HostTensor> =>
  Object.fromEntries(session.inputs.map((input, seed) => [input.name, inside(filled(input, seed))]));

const emptyOutputs = (session: LocalSession): Record<string, HostTensor> =>
  Object.fromEntries(session.outputs.map((output) => [output.name, inside(fromNumbers(specOf(output), []))]));

describe('float16 tensors', () => {
  it.each([0, 1])(
    'of segment %i are written where they are wanted, with the values that a run gives',
    async (index) => {
      const session = await segment(index);
      const types = [...session.inputs, ...session.outputs].map(({ dtype }) => dtype);
      expect(types).toContain('float16');
      const feeds = feedsOf(session);
      const given = await session.run(feeds);
      const outputs = emptyOutputs(session);
      await session.bind(feeds, outputs)();
      for (const { name } of session.outputs) {
        const [expected, found] = [given[name], outputs[name]];
        if (!expected || !found) throw new Error(`Expected the output "${name}".`);
        expect(toNumbers(found)).toEqual(toNumbers(expected));
        expect(toNumbers(found).some((value) => value !== 0)).toBe(true);
      }
      await session.dispose();
    },
  );

  it('count as inputs: other halves give another result', async () => {
    const session = await segment(1);
    const feeds = feedsOf(session);
    const [half] = session.inputs.filter(({ dtype }) => dtype === 'float16');
    const [output] = session.outputs;
    if (!half || !output) throw new Error('Expected a float16 input and an output.');
    const first = (await session.run(feeds))[output.name];
    const second = (await session.run({ ...feeds, [half.name]: filled(half, 0.5) }))[output.name];
    expect(second?.data).not.toEqual(first?.data);
    await session.dispose();
  });
});
