/**
 * Rewrites that bring different exporters' graphs to the one form that the rules split best:
 *
 * - a bias inside Conv or Gemm becomes an Add, so that the product may be partial and the bias is added once, after the sum;
 * - an axis that an operator's older version takes by default is written down, for rules do not know versions;
 * - a write by constant index becomes slices and a concatenation (`writes.ts`);
 * - a constant among the model's outputs is copied by a node;
 * - in a sum of several terms the products come first, so that products which are partial share one all-reduce (a resnet's
 *   second convolution and its shortcut convolution).
 */

import { elementCount } from '../../common/tensor.js';
import {
  findUses,
  floatAttribute,
  type Graph,
  type Node,
  opsetOf,
  prune,
  type Uses,
  type Value,
} from '../graph/graph.js';
import { makeNode } from '../graph/tape.js';
import { intAttribute } from '../onnx/index.js';
import { findFacts } from '../rules/index.js';
import { unrollWrites } from './writes.js';

/** A Conv's bias `[channels]` as it must lie to be added to `[batch, channels, ...spatial]`. */
const channelBias = (bias: Value, spatialAxes: number): Value => {
  const shape = [...(bias.shape ?? []), ...Array.from({ length: spatialAxes }, () => 1)];
  const { constant } = bias;
  const name = `${bias.name}@${spatialAxes}d`;
  return constant?.kind === 'weight'
    ? { ...bias, name, shape, constant: { kind: 'weight', source: { ...constant.source, shape } } }
    : { ...bias, name, shape };
};

const biasOf = (node: Node): Value | undefined => {
  const bias = node.inputs[2];
  const output = node.outputs[0];
  if (!bias?.constant || !output?.shape || node.domain !== '') return undefined;
  if (node.op === 'Conv' || node.op === 'ConvTranspose') return channelBias(bias, output.shape.length - 2);
  return node.op === 'Gemm' && floatAttribute(node, 'beta', 1) === 1 ? bias : undefined;
};

const splitBias = (node: Node): readonly Node[] => {
  const bias = biasOf(node);
  const [output] = node.outputs;
  if (!bias || !output) return [node];
  const product: Value = { ...output, name: `${output.name}@product` };
  return [
    { ...node, inputs: node.inputs.slice(0, 2), outputs: [product] },
    makeNode('Add', `${node.name}@bias`, [product, bias], output),
  ];
};

/** One value per name, for `channelBias` may make the same one twice. */
const internBiases = (nodes: readonly Node[]): readonly Node[] => {
  const byName = new Map<string, Value>();
  const intern = (value: Value | undefined) => {
    if (!value?.constant) return value;
    const known = byName.get(value.name);
    if (!known) byName.set(value.name, value);
    return known ?? value;
  };
  return nodes.map((node) => ({ ...node, inputs: node.inputs.map(intern) }));
};

/** Before opset 13 these took axis 1 by default, and all behind it; since then the last. */
const SINCE_13_LAST = new Set(['Softmax', 'LogSoftmax', 'Hardmax']);

const writeDefaultAxis = (graph: Graph): Graph => {
  const isOld = opsetOf(graph.opsets) < 13;
  const needsAxis = (node: Node) => node.domain === '' && SINCE_13_LAST.has(node.op) && !node.attributes.has('axis');
  const withAxis = (node: Node): Node => ({
    ...node,
    attributes: new Map([...node.attributes, ['axis', intAttribute('axis', 1)]]),
  });
  return isOld ? { ...graph, nodes: graph.nodes.map((node) => (needsAxis(node) ? withAxis(node) : node)) } : graph;
};

/** Whether the value is a product, perhaps moved about, that a row-parallel split would leave partial. */
const isProduct = (value: Value, { producer }: Uses): boolean => {
  for (let node = producer.get(value); node; ) {
    if (findFacts(node).isProduct) return node.inputs.length === 2;
    const [input] = node.inputs;
    if (!['Reshape', 'Transpose', 'Squeeze', 'Unsqueeze'].includes(node.op) || !input) return false;
    node = producer.get(input);
  }
  return false;
};

const isFloatAdd = (node: Node | undefined): node is Node =>
  node?.op === 'Add' && node.domain === '' && (node.outputs[0]?.dtype.startsWith('float') ?? false);

/** The terms of a tree of Adds whose inner sums nothing else reads, left to right, and the tree's inner nodes. */
const collectTerms = (root: Node, uses: Uses, kept: ReadonlySet<Value>): { terms: Value[]; inner: Node[] } => {
  const terms: Value[] = [];
  const inner: Node[] = [];
  const visit = (value: Value | undefined): void => {
    if (!value) return;
    const node = uses.producer.get(value);
    if (isFloatAdd(node) && uses.consumers.get(value)?.length === 1 && !kept.has(value)) {
      inner.push(node);
      node.inputs.forEach(visit);
    } else {
      terms.push(value);
    }
  };
  root.inputs.forEach(visit);
  return { terms, inner };
};

/** The sum with the products first, or undefined where that changes nothing. */
const reorderSum = (root: Node, terms: readonly Value[], uses: Uses): readonly Node[] | undefined => {
  const [output] = root.outputs;
  const size = elementCount(output?.shape ?? []);
  const isFirst = (term: Value) => isProduct(term, uses) && elementCount(term.shape ?? []) === size;
  const first = terms.filter(isFirst);
  if (!output || first.length < 2 || new Set(terms).size !== terms.length) return undefined;
  const ordered = [...first, ...terms.filter((term) => !first.includes(term))];
  let sum = ordered[0];
  return ordered.slice(1).map((term, i) => {
    const last = i === ordered.length - 2;
    const result: Value = last ? output : { ...output, name: `${output.name}@sum${i}` };
    const node = makeNode('Add', last ? root.name : `${root.name}@sum${i}`, [sum ?? term, term], result);
    sum = result;
    return node;
  });
};

const gatherProducts = (graph: Graph): Graph => {
  const uses = findUses(graph);
  const kept = new Set(graph.outputs);
  const replaced = new Map<Node, readonly Node[]>();
  for (const root of [...graph.nodes].reverse()) {
    if (!isFloatAdd(root) || replaced.has(root)) continue;
    const { terms, inner } = collectTerms(root, uses, kept);
    const sum = inner.length > 0 ? reorderSum(root, terms, uses) : undefined;
    if (!sum) continue;
    for (const node of inner) replaced.set(node, []);
    replaced.set(root, sum);
  }
  return { ...graph, nodes: graph.nodes.flatMap((node) => replaced.get(node) ?? [node]) };
};

/** A constant that the model gives out becomes the result of a node: only nodes' results leave a segment. */
const copyConstantOutputs = (graph: Graph): Graph => {
  const outputs = new Set(graph.outputs);
  const copies = new Map<Value, Node>();
  const rename = (value: Value | undefined): Value | undefined => {
    if (!value?.constant || !outputs.has(value)) return value;
    const name = `${value.name}@constant`;
    const { constant: _, ...result } = value;
    const node = copies.get(value) ?? makeNode('Identity', name, [{ ...value, name }], result);
    copies.set(value, node);
    return node.inputs[0];
  };
  const nodes = graph.nodes.map((node) => ({ ...node, inputs: node.inputs.map(rename) }));
  const results = graph.outputs.map((value) => {
    rename(value);
    return copies.get(value)?.outputs[0] ?? value;
  });
  return { ...graph, nodes: [...copies.values(), ...nodes], outputs: results };
};

/** The same function of the same inputs, up to the rounding of reordered sums. */
export const canonicalise = (graph: Graph): Graph => {
  const explicit = unrollWrites(writeDefaultAxis(copyConstantOutputs(graph)));
  return gatherProducts(prune({ ...explicit, nodes: internBiases(explicit.nodes.flatMap(splitBias)) }));
};
