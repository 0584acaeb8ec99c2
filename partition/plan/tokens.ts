/**
 * Where a split of tokens starts: at what the products with weights read, along its tokens (`[batch, tokens, width]`) or rows
 * (`[batch, channels, rows, columns]`). And at attention's heads: what lies by tokens can be exchanged for what lies by heads
 * (arXiv 2309.14509), of which the solver thinks where that sends less than all keys and values.
 */
import { elementCount } from '../../common/tensor.js';
import { type Graph, intAttribute, type Node, type Value } from '../graph/graph.js';
import { findFacts, operatorKey } from '../rules/index.js';
import { ROWS } from '../rules/window.js';

/** An axis that is worth splitting, in equal pieces that are each split by themselves. */
export interface TokenSeed {
  readonly value: Value;
  readonly axis: number;
  readonly pieces: number;
  /** Or heads. */
  readonly isTokens: boolean;
}

const CONVOLUTIONS: ReadonlySet<string> = new Set(['Conv', 'ConvTranspose']);
const ATTENTIONS: ReadonlySet<string> = new Set(['Attention', 'com.microsoft::MultiHeadAttention']);

/** The batch is the first axis of the model's largest input. */
export const batchOf = (graph: Graph): number => {
  const sizes = graph.inputs.map(({ shape = [] }) => elementCount(shape));
  return graph.inputs[sizes.indexOf(Math.max(...sizes))]?.shape?.[0] ?? 1;
};

const tokens = (value: Value | undefined, axis: number): readonly TokenSeed[] =>
  value ? [{ value, axis, pieces: 1, isTokens: true }] : [];

/** Tokens or rows of what is multiplied by weights. */
const tokensOf = (node: Node, isWeight: (value: Value) => boolean): readonly TokenSeed[] => {
  const [left, right] = node.inputs;
  const rank = left?.shape?.length ?? 0;
  if (!left || !right || isWeight(left) || !isWeight(right)) return [];
  if (CONVOLUTIONS.has(operatorKey(node))) return tokens(left, ROWS);
  return intAttribute(node, 'transA', 0) === 0 && rank > 1 ? tokens(left, rank - 2) : [];
};

/** Heads of two activations' product: `[batch, heads, tokens, size]`, or with heads of each picture one after the other. */
const headsOf = (node: Node, batch: number, isWeight: (value: Value) => boolean): readonly TokenSeed[] => {
  const [left, right] = node.inputs;
  const rank = left?.shape?.length ?? 0;
  if (!left || !right || isWeight(left) || isWeight(right)) return [];
  if (ATTENTIONS.has(operatorKey(node)))
    return [{ value: left, axis: rank === 4 ? 1 : rank - 1, pieces: 1, isTokens: false }];
  if (rank < 3) return [];
  return [{ value: left, axis: rank - 3, pieces: rank === 3 ? batch : 1, isTokens: false }];
};

/** @param isWeight whether a value is made of weights alone */
export const findTokens = (graph: Graph, isWeight: (value: Value) => boolean): readonly TokenSeed[] => {
  const batch = batchOf(graph);
  const products = graph.nodes.filter((node) => findFacts(node).isProduct || ATTENTIONS.has(operatorKey(node)));
  const all = products.flatMap((node) => tokensOf(node, isWeight));
  // A table's rows may be those of a batch; they follow from the others, where there are any.
  const wide = all.filter(({ value }) => (value.shape?.length ?? 0) > 2);
  return [...(wide.length > 0 ? wide : all), ...products.flatMap((node) => headsOf(node, batch, isWeight))];
};
