/** Small ONNX models for the tests of reading and writing, each in a temporary folder of its own. */
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import {
  createGraph,
  createModel,
  createNode,
  createTensor,
  createValueInfo,
  DataType,
  encodeModel,
  type ModelProto,
  setExternalData,
  type TensorProto,
  tensorAttribute,
} from '#tandem/partition/onnx/index.js';

/** Bytes that differ from place to place. */
export const pattern = (bytes: number, seed = 1): Uint8Array =>
  Uint8Array.from({ length: bytes }, (_, index) => (Math.imul(index + seed, 2654435761) >>> 13) & 0xff);

export const rawTensor = (name: string, dims: readonly number[], rawData: Uint8Array): TensorProto =>
  createTensor({ name, dims: dims.map(BigInt), dataType: DataType.FLOAT, rawData });

export const externalTensor = (
  name: string,
  dims: readonly number[],
  location: string,
  offset: number,
  bytes: number,
): TensorProto => {
  const tensor = createTensor({ name, dims: dims.map(BigInt), dataType: DataType.FLOAT });
  setExternalData(tensor, location, offset, bytes);
  return tensor;
};

/** `y = x * big + small`, then a `Constant` node; `big` is [32, 16], `small` [16], the constant [16, 20]. */
export const smallModel = (initializer: readonly TensorProto[], constant: TensorProto): ModelProto =>
  createModel({
    irVersion: 8n,
    producerName: 'tandem test',
    opsetImport: [{ domain: '', version: 17n }],
    graph: createGraph({
      name: 'main',
      node: [
        createNode({ opType: 'Constant', output: ['constant'], attribute: [tensorAttribute('value', constant)] }),
        createNode({ opType: 'MatMul', input: ['x', 'big'], output: ['product'] }),
        createNode({ opType: 'Add', input: ['product', 'small'], output: ['sum'] }),
        createNode({ opType: 'MatMul', input: ['sum', 'constant'], output: ['y'] }),
      ],
      initializer: [...initializer],
      input: [createValueInfo('x', DataType.FLOAT, ['batch', 32])],
      output: [createValueInfo('y', DataType.FLOAT, ['batch', 20])],
    }),
  });

export const BIG = pattern(32 * 16 * 4, 1);
export const SMALL = pattern(16 * 4, 2);
export const CONSTANT = pattern(16 * 20 * 4, 3);

/** Everything in the model file. */
export const inlineModel = (): ModelProto =>
  smallModel(
    [rawTensor('big', [32, 16], BIG), rawTensor('small', [16], SMALL)],
    rawTensor('value', [16, 20], CONSTANT),
  );

/** The same model with all its tensors in `weights.bin`. */
export const externalModel = (): { readonly model: ModelProto; readonly weights: Uint8Array } => ({
  model: smallModel(
    [
      externalTensor('big', [32, 16], 'weights.bin', 0, BIG.byteLength),
      externalTensor('small', [16], 'weights.bin', BIG.byteLength, SMALL.byteLength),
    ],
    externalTensor('value', [16, 20], 'weights.bin', BIG.byteLength + SMALL.byteLength, CONSTANT.byteLength),
  ),
  weights: Buffer.concat([BIG, SMALL, CONSTANT]),
});

/** Writes `model.onnx`, and what lies beside it. */
export const saveModel = (
  folder: string,
  model: ModelProto,
  files: Readonly<Record<string, Uint8Array>> = {},
): string => {
  const path = join(folder, 'model.onnx');
  writeFileSync(path, encodeModel(model));
  for (const [name, bytes] of Object.entries(files)) writeFileSync(join(folder, name), bytes);
  return path;
};
