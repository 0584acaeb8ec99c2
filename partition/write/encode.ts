/** Segments as the bytes of ONNX files: constants get their bytes or point into the rank's weights file. */
import { DTYPES } from '../../common/tensor.js';
import { CONTRIB_DOMAIN, constantsOf, type Graph, knownShape, type Node, type Value } from '../graph/graph.js';
import {
  createGraph,
  createModel,
  createNode,
  createTensor,
  createValueInfo,
  encodeModel,
  type ModelProto,
  type NodeProto,
  setExternalData,
  type TensorProto,
} from '../onnx/index.js';
import { type EncodedSegment, WEIGHTS_FILE } from './tasks.js';

/** Where a constant's bytes are. */
export type Placed =
  | { readonly kind: 'inline'; readonly data: Uint8Array }
  | { readonly kind: 'stored'; readonly offset: number; readonly bytes: number };

const toNode = ({ name, op, domain, attributes, inputs, outputs }: Node): NodeProto => {
  const names = (values: Node['inputs']) => values.map((value) => value?.name ?? '');
  return createNode({
    name,
    opType: op,
    domain,
    input: names(inputs),
    output: names(outputs),
    attribute: [...attributes.values()],
  });
};

const toTensor = ({ name, dtype, shape = [] }: Value, place: Placed | undefined): TensorProto => {
  const tensor = createTensor({ name, dataType: DTYPES[dtype].code, dims: shape.map(BigInt) });
  if (!place) throw new RangeError(`Constant "${name}" has no place.`);
  if (place.kind === 'inline') tensor.rawData = place.data;
  else setExternalData(tensor, WEIGHTS_FILE, place.offset, place.bytes);
  return tensor;
};

const declare = (value: Value) => createValueInfo(value.name, DTYPES[value.dtype].code, knownShape(value));

/** Operators of ONNX Runtime's own have a version only where a graph has them. */
const opsetsOf = ({ nodes, opsets }: Graph): Graph['opsets'] => {
  const isMissing = !opsets.some(({ domain }) => domain === CONTRIB_DOMAIN);
  const isUsed = nodes.some(({ domain }) => domain === CONTRIB_DOMAIN);
  return isMissing && isUsed ? [...opsets, { domain: CONTRIB_DOMAIN, version: 1 }] : opsets;
};

const toModel = (graph: Graph, placed: ReadonlyMap<Value, Placed>): ModelProto =>
  createModel({
    irVersion: BigInt(graph.irVersion),
    opsetImport: opsetsOf(graph).map(({ domain, version }) => ({ domain, version: BigInt(version) })),
    graph: createGraph({
      name: 'segment',
      node: graph.nodes.map(toNode),
      input: graph.inputs.map(declare),
      output: graph.outputs.map(declare),
      initializer: [...constantsOf(graph)].map((value) => toTensor(value, placed.get(value))),
    }),
  });

/** A segment whose values have names, with its constants in their places. */
export const encodeSegment = (
  { file, graph }: { readonly file: string; readonly graph: Graph },
  placed: ReadonlyMap<Value, Placed>,
): EncodedSegment => ({ file, graph: encodeModel(toModel(graph, placed)) });
