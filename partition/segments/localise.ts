/** A node as one rank runs it: the same operator on parts, with the sizes that its attributes and constants name made local. */
import { DTYPES } from '../../common/tensor.js';
import type { Node, Value } from '../graph/graph.js';
import { localShape, REPLICATE } from '../graph/placement.js';
import type { Tape } from '../graph/tape.js';
import { createTensor, intAttribute, intsAttribute, tensorAttribute } from '../onnx/index.js';
import { findRule } from '../rules/index.js';
import type { LocalEdit, Row } from '../rules/rule.js';

/** A node's operands as the rank has them; an optional one may be left out. */
export interface LocalOperands {
  readonly inputs: readonly (Value | undefined)[];
  readonly outputs: readonly (Value | undefined)[];
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

const editAttributes = (node: Node, edit: LocalEdit): Node['attributes'] => {
  const attributes = new Map(node.attributes);
  for (const [name, value] of Object.entries(edit.ints ?? {})) {
    // An attribute that the operator's version may not know is only changed where it is there.
    if (!attributes.has(name)) continue;
    attributes.set(name, typeof value === 'number' ? intAttribute(name, value) : intsAttribute(name, value));
  }
  return attributes;
};

/** Records the node for one rank, and what its result goes through. */
export const localise = (tape: Tape, node: Node, row: Row, rank: number, { inputs, outputs }: LocalOperands): void => {
  const edit = editFor(node, row, rank);
  const name = outputs.find((value) => value)?.name ?? node.name;
  const read = inputs.map((value, i) => {
    const values = edit.constants?.[i];
    const dtype = node.inputs[i]?.dtype === 'int32' ? 'int32' : 'int64';
    // A node of weights alone runs in several segments.
    return values ? tape.shared(`${name} ${i}`, () => tape.ints(name, values, dtype)) : value;
  });
  const local = { ...node, attributes: editAttributes(node, edit), inputs: read };
  const [result, ...others] = outputs;
  if (edit.scale === undefined || !result) return tape.keep({ ...local, outputs });
  const part: Value = { ...result, name: `${result.name}@part` };
  // The node that gives the result may be called as the result is.
  tape.keep({ ...local, name: part.name, outputs: [part, ...others] });
  scale(tape, part, edit.scale, result);
};

const scalar = (value: number) =>
  createTensor({ dataType: DTYPES.float32.code, rawData: new Uint8Array(Float32Array.of(value).buffer) });

/** `result = part * factor`, the factor in the type of both. */
const scale = (tape: Tape, part: Value, factor: number, result: Value): void => {
  const { name, dtype } = result;
  const single = tape.value(name, 'scale32', 'float32', []);
  tape.add('Constant', [], single, [tensorAttribute('value', scalar(factor))]);
  const cast = intAttribute('to', DTYPES[dtype].code);
  const own = tape.add('Cast', [single], tape.value(name, 'scale', dtype, []), [cast]);
  tape.add('Mul', [part, own], result);
};
