/** A model of one operator several times over, or of a stretch of a graph, with numbers that mean nothing for weights. */

import { byteLength, DTYPES, type DType, type HostTensor } from '../../common/tensor.js';
import type { Node, Value } from '../graph/graph.js';
import {
  createGraph,
  createModel,
  createNode,
  createTensor,
  createValueInfo,
  encodeModel,
  type NodeProto,
  type TensorProto,
  type ValueInfoProto,
} from '../onnx/index.js';

export interface OperatorModel {
  readonly bytes: Uint8Array;
  readonly feeds: Readonly<Record<string, HostTensor>>;
  /** How often the nodes run in a run of the model. */
  readonly copies: number;
}

type Opsets = readonly { readonly domain: string; readonly version: number }[];

/** Values of about 1 in any float type: small ones would underflow to denormals, which are slow. */
const ONES: Readonly<Partial<Record<DType, readonly number[]>>> = {
  float32: [0x00, 0x00, 0x80, 0x3f],
  float16: [0x00, 0x3c],
  bfloat16: [0x80, 0x3f],
  float64: [0, 0, 0, 0, 0, 0, 0xf0, 0x3f],
};

/** Zeros for whole numbers: an index of 0 is always there. */
const fill = (dtype: DType, shape: readonly number[]): Uint8Array => {
  const data = new Uint8Array(byteLength({ dtype, shape }));
  const one = ONES[dtype];
  if (one && data.length > 0) {
    data.set(one);
    for (let filled = one.length; filled < data.length; filled *= 2) data.copyWithin(filled, 0, filled);
  }
  return data;
};

const initializer = ({ name, dtype, shape = [], constant }: Value): TensorProto =>
  createTensor({
    name,
    dataType: DTYPES[dtype].code,
    dims: shape.map(BigInt),
    rawData: constant?.kind === 'inline' ? constant.data : fill(dtype, shape),
  });

const INT64 = DTYPES.int64.code;

const intsTensor = (name: string, values: readonly number[]): TensorProto =>
  createTensor({
    name,
    dataType: INT64,
    dims: [BigInt(values.length)],
    rawData: new Uint8Array(BigInt64Array.from(values, BigInt).buffer),
  });

const distinct = (values: readonly (Value | undefined)[]): readonly Value[] =>
  [...new Set(values)].filter((value) => value !== undefined);

/** Gives out the first element only: whole tensors would be copied or kept, which is not the operators' time. */
const firstElement = ({ name, shape = [] }: Value, copy: number): NodeProto => {
  const [input, output] = [`${name}#${copy}`, `${name}#${copy}@first`];
  return shape.length === 0
    ? createNode({ opType: 'Identity', input: [input], output: [output] })
    : createNode({ opType: 'Slice', input: [input, `starts${shape.length}`, `ends${shape.length}`], output: [output] });
};

const firstDeclared = ({ name, dtype, shape = [] }: Value, copy: number): ValueInfoProto =>
  createValueInfo(
    `${name}#${copy}@first`,
    DTYPES[dtype].code,
    shape.map(() => 1),
  );

/** What nodes read and make together. */
interface Ends {
  readonly made: ReadonlySet<Value>;
  /** Read and not made. */
  readonly read: readonly Value[];
  /** Made, and read by none of them. */
  readonly last: readonly Value[];
}

const findEnds = (nodes: readonly Node[]): Ends => {
  const made = new Set(distinct(nodes.flatMap(({ outputs }) => outputs)));
  const read = distinct(nodes.flatMap(({ inputs }) => inputs));
  const used = new Set(read);
  return { made, read: read.filter((value) => !made.has(value)), last: [...made].filter((value) => !used.has(value)) };
};

const copyOf = (node: Node, made: ReadonlySet<Value>, copy: number): NodeProto => {
  const nameOf = (value: Value | undefined) => {
    if (!value) return '';
    return made.has(value) ? `${value.name}#${copy}` : value.name;
  };
  return createNode({
    name: `${node.name}#${copy}`,
    opType: node.op,
    domain: node.domain,
    input: node.inputs.map(nameOf),
    output: node.outputs.map(nameOf),
    attribute: [...node.attributes.values()],
  });
};

/**
 * @param nodes one operator, or a stretch of a graph
 * @param copies each has nodes of its own on the same inputs; the session must not merge them
 */
export const operatorModel = (
  nodes: readonly Node[],
  opsets: Opsets,
  irVersion: number,
  copies: number,
): OperatorModel => {
  const { made, read, last } = findEnds(nodes);
  const fed = read.filter((value) => !value.constant);
  const ranks = [...new Set(last.map(({ shape }) => shape?.length ?? 0))].filter((rank) => rank > 0);
  const indexes = Array.from({ length: copies }, (_, index) => index);
  const model = createModel({
    irVersion: BigInt(irVersion),
    opsetImport: opsets.map(({ domain, version }) => ({ domain, version: BigInt(version) })),
    graph: createGraph({
      name: 'operator',
      node: indexes.flatMap((copy) => [
        ...nodes.map((node) => copyOf(node, made, copy)),
        ...last.map((value) => firstElement(value, copy)),
      ]),
      input: fed.map(({ name, dtype, shape }) => createValueInfo(name, DTYPES[dtype].code, shape ?? [])),
      output: indexes.flatMap((copy) => last.map((value) => firstDeclared(value, copy))),
      initializer: [
        ...read.filter((value) => value.constant).map(initializer),
        ...ranks.flatMap((rank) => [
          intsTensor(`starts${rank}`, new Array<number>(rank).fill(0)),
          intsTensor(`ends${rank}`, new Array<number>(rank).fill(1)),
        ]),
      ],
    }),
  });
  const feeds = fed.map(({ name, dtype, shape = [] }) => [name, { dtype, shape, data: fill(dtype, shape) }] as const);
  return { bytes: encodeModel(model), feeds: Object.fromEntries(feeds), copies };
};

/** As `operatorModel`, with copies that only give out the first element of the model's input. */
export const idleModel = (opsets: Opsets, irVersion: number, copies: number): OperatorModel => {
  const shape = [1, 1];
  const indexes = Array.from({ length: copies }, (_, index) => `y${index}`);
  const declare = (name: string) => createValueInfo(name, DTYPES.float32.code, shape);
  const model = createModel({
    irVersion: BigInt(irVersion),
    opsetImport: opsets.map(({ domain, version }) => ({ domain, version: BigInt(version) })),
    graph: createGraph({
      name: 'idle',
      node: indexes.map((name) => createNode({ opType: 'Slice', input: ['x', 'starts', 'ends'], output: [name] })),
      input: [declare('x')],
      output: indexes.map(declare),
      initializer: [intsTensor('starts', [0, 0]), intsTensor('ends', [1, 1])],
    }),
  });
  return { bytes: encodeModel(model), feeds: { x: { dtype: 'float32', shape, data: fill('float32', shape) } }, copies };
};
