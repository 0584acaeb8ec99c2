/** A graph that is nothing but long: each node reads what the one before made. */
import {
  createGraph,
  createModel,
  createNode,
  createValueInfo,
  DataType,
  encodeModel,
} from '#tandem/partition/onnx/index.js';

const SHAPE = [4, 64];

export const chainModel = (nodes: number): Uint8Array => {
  const name = (index: number): string => (index === nodes ? 'out' : `t${index}`);
  const node = Array.from({ length: nodes }, (_, index) =>
    createNode({ name: `n${index}`, opType: 'Sin', input: [name(index)], output: [name(index + 1)] }),
  );
  const graph = createGraph({
    name: 'chain',
    node,
    input: [createValueInfo(name(0), DataType.FLOAT, SHAPE)],
    output: [createValueInfo('out', DataType.FLOAT, SHAPE)],
  });
  return encodeModel(createModel({ irVersion: 8n, opsetImport: [{ domain: '', version: 17n }], graph }));
};
