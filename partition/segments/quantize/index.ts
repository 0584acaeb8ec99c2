/**
 * Int8 weights. In each segment, a linear layer or convolution whose weight is constant becomes a product of 8-bit integers:
 * the weight has a scale for each output; the activation is quantised in every step, by the range that it has then; a
 * convolution is a matrix product of the input's patches. On a core with AVX-512 VNNI, ONNX Runtime 1.30 runs that two to
 * four times as fast as float32 at the shapes of a Stable Diffusion UNet. Biases, norms and narrow weights stay float32.
 *
 * Only graphs are rewritten here: they compute the int8 weights from the float32 ones, and ONNX Runtime, which folds what
 * depends on constants alone, does that when it optimises the segment. What no node then reads is not written.
 *
 * Segments have their rank's parts already. Ranks that hold the same activation quantise it to the same bits; where each
 * holds a part, each has the range of its part, which is at most as wide.
 */

import { TandemError } from '../../../common/errors.js';
import { elementCount } from '../../../common/tensor.js';
import { type Graph, opsetOf, type Value } from '../../graph/graph.js';
import { Tape } from '../../graph/tape.js';
import type { Program, Segment } from '../rank-program.js';
import { Int8Products } from './int8-products.js';
import { findKnown, isFolded, type Known } from './known.js';
import { findProducts, type Product } from './products.js';

/**
 * The same programs with int8 products.
 * @param programs index is the rank
 * @throws TandemError QUANTIZE_NOTHING where there is none to be made
 */
export const quantizePrograms = (programs: readonly Program[]): readonly Program[] => {
  const quantized = programs.map((program) => ({ ...program, segments: program.segments.map(quantizeSegment) }));
  if (quantized.some(({ segments }) => segments.some(({ folded }) => folded.size > 0))) return quantized;
  throw new TandemError(
    'QUANTIZE_NOTHING',
    'Expected linear layers or convolutions with float32 weights to make int8; found none. Export the model as float32, or leave int8 out.',
  );
};

/** Requires that the graph's outputs are all that leaves it; ensures that they are the same values. */
const quantizeSegment = (segment: Segment): Segment => {
  const { graph } = segment;
  const known = findKnown(graph);
  const products = findProducts(graph, known);
  const tape = new Tape();
  const int8 = new Int8Products(tape, opsetOf(graph.opsets));
  const last = new Map(products.map((product) => [product.bias?.add ?? product.node, product]));
  const replaced = new Set(products.map(({ node }) => node));
  for (const node of graph.nodes) {
    const product = last.get(node);
    if (product) int8.add(product);
    else if (!replaced.has(node)) tape.keep(node);
  }
  const folded = new Map([...segment.folded, ...int8.folded, ...quantizedBytes(products, graph, known)]);
  return { ...segment, graph: { ...graph, nodes: tape.take() }, folded };
};

/** Bytes that constants have as int8, scales included; one that is also read as it is keeps its size. */
const quantizedBytes = (products: readonly Product[], graph: Graph, known: Known): ReadonlyMap<Value, number> => {
  const bytes = new Map<Value, number>();
  for (const { weight, outputAxis } of products) {
    const [constant, ...others] = known.get(weight) ?? [];
    for (const other of others) bytes.set(other, 0);
    if (constant) bytes.set(constant, elementCount(weight.shape) + 4 * (weight.shape[outputAxis] ?? 0));
  }
  const replaced = new Set(products.map(({ node }) => node));
  for (const node of graph.nodes) {
    if (isFolded(node, known) || replaced.has(node)) continue;
    for (const value of node.inputs) for (const constant of (value && known.get(value)) ?? []) bytes.delete(constant);
  }
  return bytes;
};
