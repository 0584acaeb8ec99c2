/** Attention as one operator: heads are independent of each other, and so are queries, given all keys and values. */

import { elementCount } from '../../common/tensor.js';
import { intAttribute, type Node } from '../graph/graph.js';
import type { Table } from './registry.js';
import { type LocalEdit, type LocalShapes, shapeOf } from './rule.js';
import { type Factors, rule, type Signature } from './signature.js';

/** Multiplies and adds of the two products: queries times keys, and scores times values. */
const attentionFlops = (node: Node): number => {
  const [query, key] = [shapeOf(node.inputs[0]), shapeOf(node.inputs[1])];
  return 4 * elementCount(query) * (key.at(-2) ?? query.at(-2) ?? 1);
};

/** Factors of a mask or bias `[batch, heads, queries, keys]`, aligned at the end; axes of size 1 are for all. */
const maskFactors = (node: Node, index: number, queries: string | null): Factors => {
  const shape = shapeOf(node.inputs[index]);
  const factors: Factors = ['b', 'h', queries, null];
  return shape.map((size, axis) => (size > 1 ? (factors[4 - shape.length + axis] ?? null) : null));
};

/** The queries' factor; null where a query's place decides which keys it sees. */
const queryFactor = (node: Node, causal: string): 'q' | null => (intAttribute(node, causal, 0) === 0 ? 'q' : null);

/** ONNX `Attention` (opset 23): `[batch, heads, sequence, size]`, or `[batch, sequence, heads * size]` with `q_num_heads`. */
const onnxAttention = (node: Node): Signature | undefined => {
  const rank = shapeOf(node.inputs[0]).length;
  if (node.inputs.length > 4 && node.inputs.slice(4).some((value) => value)) return undefined;
  const heads = rank === 4 ? shapeOf(node.inputs[1])[1] : intAttribute(node, 'kv_num_heads', 0);
  if (!heads || node.outputs.slice(1).some((value) => value)) return undefined;
  const queries = queryFactor(node, 'is_causal');
  const factors = (tokens: string | null): Factors => (rank === 4 ? ['b', 'h', tokens, null] : ['b', tokens, 'h']);
  const mask = node.inputs[3] ? [maskFactors(node, 3, queries)] : [];
  return {
    inputs: [factors(queries), factors(null), factors(null), ...mask],
    outputs: [factors(queries)],
    units: { h: heads },
  };
};

/** Heads of a rank, in proportion to its part of the given input's last axis. */
const localHeads = (node: Node, local: LocalShapes, input: number, heads: number): number => {
  const whole = shapeOf(node.inputs[input]).at(-1) ?? 1;
  return (heads * (local.inputs[input]?.at(-1) ?? whole)) / whole;
};

const headCounts =
  (names: Readonly<Record<string, number>>) =>
  (node: Node, local: LocalShapes): LocalEdit => {
    const counts = Object.entries(names).filter(([name]) => node.attributes.has(name));
    if (shapeOf(node.inputs[0]).length !== 3) return {};
    return {
      ints: Object.fromEntries(
        counts.map(([name, input]) => [name, localHeads(node, local, input, intAttribute(node, name, 1))]),
      ),
    };
  };

/**
 * `com.microsoft::MultiHeadAttention` with separate query, key and value `[batch, sequence, hidden]` and perhaps an added
 * mask; `unfuse` brings packed forms and those with a bias into this one. Padding masks and caches are left whole.
 */
const multiHead = (node: Node): Signature | undefined => {
  const [query, key, value, bias, padding, added, ...caches] = node.inputs;
  if (![query, key, value].every((input) => shapeOf(input).length === 3)) return undefined;
  if ([bias, padding, ...caches].some((input) => input)) return undefined;
  const queries = queryFactor(node, 'unidirectional');
  const keys: Factors = ['b', null, 'h'];
  const mask = added ? [[], [], maskFactors(node, 5, queries)] : [];
  return {
    inputs: [['b', queries, 'h'], keys, keys, ...mask],
    outputs: [['b', queries, 'h']],
    units: { h: intAttribute(node, 'num_heads', 1) },
  };
};

export const ATTENTION = {
  Attention: rule({
    cost: 'attention',
    signature: onnxAttention,
    flops: attentionFlops,
    localise: headCounts({ q_num_heads: 0, kv_num_heads: 1 }),
  }),
  'com.microsoft::MultiHeadAttention': rule({
    cost: 'attention',
    signature: multiHead,
    flops: attentionFlops,
    localise: headCounts({ num_heads: 0 }),
  }),
} satisfies Table;
