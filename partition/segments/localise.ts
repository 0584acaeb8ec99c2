/** A node as one rank runs it: the same operator on parts, with the sizes that its attributes and constants name made local. */
import { DTYPES, type TensorSpec } from '../../common/tensor.js';
import type { Node, Value } from '../graph/graph.js';
import { localShape, REPLICATE } from '../graph/placement.js';
import {
  type AttributeProto,
  createNode,
  createTensor,
  intAttribute,
  intsAttribute,
  type NodeProto,
  tensorAttribute,
} from '../onnx/index.js';
import { findRule } from '../rules/index.js';
import type { LocalEdit, Row } from '../rules/rule.js';

export interface LocalNode {
  /** The node itself, and what its result goes through; `made` is what each makes beside the node's own outputs. */
  readonly nodes: readonly { readonly node: NodeProto; readonly made: readonly TensorSpec[] }[];
  /** Integer constants that the node needs instead of its own, by the name that it reads them under. */
  readonly constants: ReadonlyMap<string, { readonly dtype: 'int64' | 'int32'; readonly values: readonly number[] }>;
}

/** Names of a node's operands on the rank; empty where an optional one is left out. */
export interface OperandNames {
  readonly inputs: readonly string[];
  readonly outputs: readonly string[];
}

const shapesOf = (values: readonly (Value | undefined)[], placements: Row['inputs'], rank: number) =>
  values.map((value, i) => (value?.shape ? localShape(value.shape, placements[i] ?? REPLICATE, rank) : undefined));

const editFor = (node: Node, row: Row, rank: number): LocalEdit => {
  const isSplit = [...row.inputs, ...row.outputs].some(({ kind }) => kind === 'shard');
  const localise = isSplit ? findRule(node)?.localise : undefined;
  if (!localise) return {};
  const inputs = shapesOf(node.inputs, row.inputs, rank);
  return localise(node, { rank, row, inputs, outputs: shapesOf(node.outputs, row.outputs, rank) });
};

const editAttributes = (node: Node, edit: LocalEdit): AttributeProto[] => {
  const attributes = new Map(node.attributes);
  for (const [name, value] of Object.entries(edit.ints ?? {})) {
    // An attribute that the operator's version may not know is only changed where it is there.
    if (!attributes.has(name)) continue;
    attributes.set(name, typeof value === 'number' ? intAttribute(name, value) : intsAttribute(name, value));
  }
  return [...attributes.values()];
};

/** @returns the node for one rank; constants that differ from rank to rank are named after the node */
export const localise = (node: Node, row: Row, rank: number, names: OperandNames): LocalNode => {
  const edit = editFor(node, row, rank);
  const constants = new Map<string, { readonly dtype: 'int64' | 'int32'; readonly values: readonly number[] }>();
  const inputs = names.inputs.map((name, i) => {
    const values = edit.constants?.[i];
    if (!values) return name;
    const local = `${names.outputs.find((output) => output !== '')}@input${i}`;
    constants.set(local, { dtype: node.inputs[i]?.dtype === 'int32' ? 'int32' : 'int64', values });
    return local;
  });
  const local = createNode({
    name: node.name,
    opType: node.op,
    domain: node.domain,
    input: inputs,
    output: [...names.outputs],
    attribute: editAttributes(node, edit),
  });
  const [output] = node.outputs;
  if (edit.scale === undefined || !output) return { nodes: [{ node: local, made: [] }], constants };
  const [shape = []] = shapesOf(node.outputs, row.outputs, rank);
  return { nodes: scaled(local, { dtype: output.dtype, shape }, edit.scale), constants };
};

const scalar = (value: number) =>
  createTensor({ dataType: DTYPES.float32.code, rawData: new Uint8Array(Float32Array.of(value).buffer) });

/** The node, and its first output, of the given type and shape, times a number. */
const scaled = (local: NodeProto, { dtype, shape }: Omit<TensorSpec, 'name'>, scale: number): LocalNode['nodes'] => {
  const [name = '', ...others] = local.output;
  const [part, single, factor] = [`${name}@part`, `${name}@scale32`, `${name}@scale`];
  const cast = intAttribute('to', DTYPES[dtype].code);
  const value = tensorAttribute('value', scalar(scale));
  return [
    { node: createNode({ ...local, output: [part, ...others] }), made: [{ name: part, dtype, shape }] },
    {
      node: createNode({ name: single, opType: 'Constant', output: [single], attribute: [value] }),
      made: [{ name: single, dtype: 'float32', shape: [] }],
    },
    {
      node: createNode({ name: factor, opType: 'Cast', input: [single], output: [factor], attribute: [cast] }),
      made: [{ name: factor, dtype, shape: [] }],
    },
    { node: createNode({ name: `${name}@scaled`, opType: 'Mul', input: [part, factor], output: [name] }), made: [] },
  ];
};
