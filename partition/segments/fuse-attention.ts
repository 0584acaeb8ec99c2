/**
 * Attention over many tokens as one node. Written out as exporters do, `MatMul, Softmax, MatMul`, it holds the scores of all
 * pairs of tokens: half a gigabyte at the 4,096 tokens of a 64x64 latent. ONNX Runtime's `MultiHeadAttention` on a CPU goes
 * through them in tiles that stay in the cache (arXiv 2205.14135): a fifth less time for such a layer, measured on one core,
 * and next to no memory. Under about a million pairs it was slower than the three nodes, so those are left as they are.
 *
 * Done in a rank's own graph, after it was split: the planner knows only the operators of ONNX.
 */

import { elementCount } from '../../common/tensor.js';
import {
  CONTRIB_DOMAIN,
  constantFloats,
  findUses,
  type Graph,
  intAttribute as intOf,
  type Node,
  normaliseAxis,
  prune,
  type Value,
} from '../graph/graph.js';
import { Tape } from '../graph/tape.js';
import { floatAttribute, intAttribute, intsAttribute } from '../onnx/index.js';

/** Scores (heads x queries x keys) from which the one node is faster. */
const MANY_SCORES = 4 * 1024 * 1024;

/** `Softmax(scale * query @ keysTransposed) @ values`. */
interface Attention {
  readonly query: Value;
  /** Keys with their last two axes exchanged, as the `MatMul` needs them. */
  readonly keysTransposed: Value;
  readonly values: Value;
  readonly scale: number;
  readonly output: Value;
}

type Producer = (value: Value) => Node | undefined;

/**
 * Replaces attention over many tokens.
 * Requires that the graph's outputs are all that leaves it; ensures that they are the same values.
 */
export const fuseAttention = (graph: Graph): Graph => {
  const { producer } = findUses(graph);
  const reads = new Map<Value | undefined, number>(graph.outputs.map((value) => [value, 2]));
  for (const value of graph.nodes.flatMap(({ inputs }) => inputs)) reads.set(value, (reads.get(value) ?? 0) + 1);
  const any: Producer = (value) => producer.get(value);
  /** The node that makes a value which is read once, and not outside. */
  const sole: Producer = (value) => (reads.get(value) === 1 ? producer.get(value) : undefined);
  const tape = new Tape();
  const nodes = graph.nodes.flatMap((node) => {
    const attention = findAttention(node, sole, any);
    if (attention) addAttention(tape, attention);
    return attention ? tape.take() : [node];
  });
  return prune({ ...graph, nodes });
};

/** The attention that ends in this `MatMul`. */
const findAttention = (last: Node, sole: Producer, any: Producer): Attention | undefined => {
  const [weights, values] = last.inputs;
  const [output] = last.outputs;
  const softmax = weights && sole(weights);
  if (last.op !== 'MatMul' || !values || !output || softmax?.op !== 'Softmax') return undefined;
  const scores = softmax.inputs[0] && unscaled(softmax.inputs[0], sole);
  const first = scores && sole(scores.value);
  const [left, right] = first?.inputs ?? [];
  if (!scores || first?.op !== 'MatMul' || !left || !right) return undefined;
  if (!fits([left, right, values, output], first.outputs[0], softmax)) return undefined;
  const [query, keys] = [unscaled(left, any), unscaled(right, any)];
  const scale = scores.scale * query.scale * keys.scale;
  return { query: query.value, keysTransposed: keys.value, values, scale, output };
};

/** Looks through multiplications with numbers. */
const unscaled = (value: Value, producerOf: Producer): { readonly value: Value; readonly scale: number } => {
  const scaled = scaling(producerOf(value));
  if (!scaled) return { value, scale: 1 };
  const inner = unscaled(scaled.of, producerOf);
  return { value: inner.value, scale: inner.scale * scaled.by };
};

/** What a node only multiplies by a number. */
const scaling = (node: Node | undefined): { readonly of: Value; readonly by: number } | undefined => {
  const [a, b] = node?.inputs ?? [];
  if (!a || !b) return undefined;
  const [scaleA, scaleB] = [scalarOf(a), scalarOf(b)];
  if (node?.op === 'Mul' && scaleB !== undefined) return { of: a, by: scaleB };
  if (node?.op === 'Mul' && scaleA !== undefined) return { of: b, by: scaleA };
  return node?.op === 'Div' && scaleB !== undefined ? { of: a, by: 1 / scaleB } : undefined;
};

const scalarOf = (value: Value): number | undefined =>
  elementCount(value.shape ?? [0]) === 1 ? constantFloats(value)?.[0] : undefined;

/** Whether the operands are whole and alike, and the scores many. */
const fits = (operands: readonly Value[], scores: Value | undefined, softmax: Node): boolean => {
  const shape = scores?.shape ?? [];
  const axis = normaliseAxis(intOf(softmax, 'axis', Number.NaN), shape.length);
  const batch = (whole: readonly number[]) => whole.slice(0, -2).join();
  const isAlike = operands.every((value) => value.shape && batch(value.shape) === batch(shape));
  const isLast = shape.length >= 3 && axis === shape.length - 1;
  return isLast && isAlike && operands[0]?.dtype === 'float32' && elementCount(shape) >= MANY_SCORES;
};

/** Every head is a batch entry of its own, so that nothing needs to be laid out anew. */
const addAttention = (tape: Tape, { query, keysTransposed, values, scale, output }: Attention): void => {
  const transposed = keysTransposed.shape ?? [];
  const rank = transposed.length;
  const perm = [...Array.from({ length: rank - 2 }, (_, axis) => axis), rank - 1, rank - 2];
  const keysShape = perm.map((axis) => transposed[axis] ?? 0);
  const keys = tape.value(output.name, 'keys', 'float32', keysShape);
  tape.add('Transpose', [keysTransposed], keys, [intsAttribute('perm', perm)]);
  const operands = [query, keys, values].map((value) => reshape(tape, value, flat(value)));
  const attributes = [intAttribute('num_heads', 1), floatAttribute('scale', scale)];
  const heads = tape.value(output.name, 'heads', 'float32', flat(output));
  tape.add('MultiHeadAttention', operands, heads, attributes, CONTRIB_DOMAIN);
  tape.add('Reshape', [heads, tape.ints(output.name, output.shape ?? [])], output);
};

/** All but the last two axes as one. */
const flat = ({ shape = [] }: Value): readonly number[] => [elementCount(shape.slice(0, -2)), ...shape.slice(-2)];

const reshape = (tape: Tape, value: Value, shape: readonly number[]): Value =>
  tape.add('Reshape', [value, tape.ints(value.name, shape)], tape.value(value.name, 'flat', value.dtype, shape));
