/** Asks a provider for one small product, in each of the types that models have: whether it runs here, and whether it is right. */
import { compareOutputs } from '../../common/compare.js';
import { fromNumbers } from '../../common/elements.js';
import { openSession, type Provider } from '../../common/onnxruntime.js';
import { DTYPES, type DType } from '../../common/tensor.js';
import { createGraph, createModel, createNode, createValueInfo, encodeModel } from '../onnx/index.js';

const SIZE = 16;
/** Rounding of half precision over sixteen products. */
const TOLERANCE = 1e-2;

/** `error` says why where `works` is false. */
export interface DeviceCheck {
  readonly works: boolean;
  readonly error?: string;
}

const productModel = (dtype: DType): Uint8Array => {
  const tensor = (name: string) => createValueInfo(name, DTYPES[dtype].code, [SIZE, SIZE]);
  const node = createNode({ name: 'product', opType: 'MatMul', input: ['a', 'b'], output: ['c'] });
  const graph = createGraph({ name: 'check', node: [node], input: [tensor('a'), tensor('b')], output: [tensor('c')] });
  return encodeModel(createModel({ irVersion: 8n, opsetImport: [{ domain: '', version: 13n }], graph }));
};

const product = async (provider: Provider, deviceId: number, dtype: DType) => {
  const session = await openSession(productModel(dtype), { provider, deviceId, optimization: 'basic' });
  const values = (seed: number) => Array.from({ length: SIZE * SIZE }, (_, index) => Math.sin(index * seed));
  const shape = [SIZE, SIZE];
  try {
    return await session.run({
      a: fromNumbers({ dtype, shape }, values(1.3)),
      b: fromNumbers({ dtype, shape }, values(0.7)),
    });
  } finally {
    await session.dispose();
  }
};

/** Opens a device and compares one product with the CPU's. In a process of its own: a driver may end it. */
export const checkDevice = async (
  provider: Provider,
  deviceId: number,
  dtype: 'float32' | 'float16',
): Promise<DeviceCheck> => {
  try {
    const found = await product(provider, deviceId, dtype);
    const { max_rel_error } = compareOutputs(found, await product('cpu', 0, dtype));
    if (max_rel_error <= TOLERANCE) return { works: true };
    return {
      works: false,
      error: `a product of two ${dtype} matrices is ${max_rel_error.toPrecision(2)} of its largest value off`,
    };
  } catch (error) {
    return { works: false, error: error instanceof Error ? error.message : String(error) };
  }
};
