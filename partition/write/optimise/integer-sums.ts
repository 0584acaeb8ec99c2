/**
 * Whether this machine's processor adds up 8-bit products exactly. x86 processors without VNNI instructions add neighbouring
 * products of a uint8 and an int8 in 16 bits, which clamps them. Nothing in a graph says so, so ONNX Runtime is asked.
 */

import { openSession } from '../../../common/onnxruntime.js';
import { DTYPES } from '../../../common/tensor.js';
import { createGraph, createModel, createNode, createTensor, createValueInfo, encodeModel } from '../../onnx/index.js';

const ROWS = 16;
const DEPTH = 64;
const COLUMNS = 32;
const [LARGEST_UINT8, LARGEST_INT8] = [255, 127];

const product = (): Uint8Array =>
  encodeModel(
    createModel({
      irVersion: 8n,
      opsetImport: [{ domain: '', version: 17n }],
      graph: createGraph({
        name: 'probe',
        node: [createNode({ name: 'product', opType: 'MatMulInteger', input: ['x', 'w'], output: ['y'] })],
        initializer: [
          createTensor({
            name: 'w',
            dims: [BigInt(DEPTH), BigInt(COLUMNS)],
            dataType: DTYPES.int8.code,
            rawData: new Uint8Array(DEPTH * COLUMNS).fill(LARGEST_INT8),
          }),
        ],
        input: [createValueInfo('x', DTYPES.uint8.code, [ROWS, DEPTH])],
        output: [createValueInfo('y', DTYPES.int32.code, [ROWS, COLUMNS])],
      }),
    }),
  );

const probe = async (): Promise<boolean> => {
  const session = await openSession(product(), { provider: 'cpu', threads: 1, optimization: 'disabled' });
  try {
    const data = new Uint8Array(ROWS * DEPTH).fill(LARGEST_UINT8);
    const { y } = await session.run({ x: { dtype: 'uint8', shape: [ROWS, DEPTH], data } });
    const sums = new Int32Array(y?.data.slice().buffer ?? new ArrayBuffer());
    return sums.length > 0 && sums.every((sum) => sum === LARGEST_UINT8 * LARGEST_INT8 * DEPTH);
  } finally {
    await session.dispose();
  }
};

/** A machine's processor does not change under a process. */
let known: Promise<boolean> | undefined;

/**
 * Whether products of uint8 and int8 are added up without clamping. Takes a few ms, once.
 * @throws whatever ONNX Runtime says, as an `Error`
 */
export const sumsAreExact = (): Promise<boolean> => {
  known ??= probe();
  return known;
};
