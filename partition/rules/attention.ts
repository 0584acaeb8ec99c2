/** Attention as one operator, and what turns its heads: they are independent of each other, and so are queries, given all keys and values. */

import { elementCount } from '../../common/tensor.js';
import { intAttribute, type Node, type Value } from '../graph/graph.js';
import {
  isAligned,
  isOverlapping,
  type Placement,
  REPLICATE,
  rankRanges,
  type Shard,
  shardWorldSize,
  widen,
} from '../graph/placement.js';
import type { Table } from './registry.js';
import {
  ILLEGAL,
  isStatic,
  type LocalEdit,
  type LocalShapes,
  type Match,
  type Operand,
  type PlaceContext,
  shapeOf,
} from './rule.js';
import { type Factors, refineGroups, rescale, rule, type Signature } from './signature.js';

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

/** The axis of a value's heads, and how many query heads read the same key and value head. */
const groupOf = (node: Node) => {
  const [query, key] = [shapeOf(node.inputs[0]), shapeOf(node.inputs[1])];
  const isApart = query.length === 4;
  const heads = isApart ? (query[1] ?? 1) : intAttribute(node, 'q_num_heads', 1);
  const keyHeads = isApart ? (key[1] ?? 1) : intAttribute(node, 'kv_num_heads', 1);
  return { axis: isApart ? 1 : 2, heads, group: heads / keyHeads };
};

/** Whether each rank's part is whole groups, or inside of one: the operator pairs a rank's heads by their numbers. */
const keepsToGroups = (shard: Shard, group: number): boolean =>
  Array.from({ length: shardWorldSize(shard) }, (_, rank) => rankRanges(shard, rank)).every(
    ([[start, end] = [0, 0], ...others]) =>
      others.length === 0 &&
      (Math.floor(start / group) === Math.floor((end - 1) / group) || (start % group === 0 && end % group === 0)),
  );

/** The operands of queries split inside of groups: each rank has the key and value heads that its queries read. */
const groupedRow = (node: Node, shard: Shard, extent: number, group: number): Match => {
  const { axis } = groupOf(node);
  const keys = widen(shard, group);
  const along = (value: Value | undefined, of: Shard | undefined): Placement => {
    const pieces = of && rescale(of, extent, shapeOf(value)[axis] ?? 1);
    return pieces ? { kind: 'shard', axis, pieces } : REPLICATE;
  };
  const [query, key, value, mask] = node.inputs;
  const maskAxis = shapeOf(mask).length - 3;
  const heads = shapeOf(mask)[maskAxis] ?? 1;
  const pieces = heads > 1 ? rescale(shard, extent, heads) : undefined;
  const maskPlacement: Placement = pieces ? { kind: 'shard', axis: maskAxis, pieces } : REPLICATE;
  const masks = node.inputs.slice(3).map((_, i) => (i === 0 ? maskPlacement : REPLICATE));
  return {
    kind: 'row',
    row: {
      inputs: [along(query, shard), along(key, keys), along(value, keys), ...masks],
      outputs: node.outputs.map((output) => along(output, shard)),
    },
  };
};

/** Queries' heads split where the keys' cannot be: inside of a group, whose one key head several ranks then have. */
const matchGroups = (node: Node, { side, index }: Operand, shard: Shard, context: PlaceContext): Match => {
  const { axis, heads, group } = groupOf(node);
  const extent = shapeOf(node[side][index])[axis] ?? 0;
  const [unit, wide] = [extent / heads, (extent / heads) * group];
  if (index !== 0 || shard.axis !== axis || isOverlapping(shard) || !isStatic(node)) return ILLEGAL;
  if (isAligned(shard, unit) && keepsToGroups(shard, wide)) return groupedRow(node, shard, extent, wide);
  const wanted = refineGroups(shard, unit, wide, context);
  return wanted ? { kind: 'wants', shards: [wanted] } : ILLEGAL;
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

/**
 * ONNX `RotaryEmbedding` (opset 23): `[batch, heads, sequence, size]`, or `[batch, sequence, heads * size]` with `num_heads`. Tables
 * are of the places `[batch, sequence, size / 2]`, or of all, and then the places are given.
 */
const rotary = (node: Node): Signature => {
  const [input, table, , places] = node.inputs;
  const heads = intAttribute(node, 'num_heads', 0);
  const factors: Factors = shapeOf(input).length === 4 ? ['b', 'h', 't', null] : ['b', 't', heads > 0 ? 'h' : null];
  const tables: Factors = places ? shapeOf(table).map(() => null) : ['b', 't', null];
  return {
    inputs: [factors, tables, tables, ...(places ? [['b', 't']] : [])],
    outputs: [factors],
    ...(heads > 0 ? { units: { h: heads } } : {}),
  };
};

const plainAttention = rule({
  cost: 'attention',
  signature: onnxAttention,
  flops: attentionFlops,
  localise: headCounts({ q_num_heads: 0, kv_num_heads: 1 }),
});

export const ATTENTION = {
  Attention: {
    ...plainAttention,
    match(node, operand, shard, context) {
      const plain = plainAttention.match(node, operand, shard, context);
      const isGrouped = onnxAttention(node) !== undefined && groupOf(node).group > 1;
      return plain.kind === 'illegal' && isGrouped ? matchGroups(node, operand, shard, context) : plain;
    },
  },
  RotaryEmbedding: rule({
    signature: rotary,
    linear: () => [[0], [1, 2]],
    flops: (node) => 3 * elementCount(shapeOf(node.outputs[0])),
    localise: headCounts({ num_heads: 0 }),
  }),
  'com.microsoft::MultiHeadAttention': rule({
    cost: 'attention',
    signature: multiHead,
    flops: attentionFlops,
    localise: headCounts({ num_heads: 0 }),
  }),
} satisfies Table;
