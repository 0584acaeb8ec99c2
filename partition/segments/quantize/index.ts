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
import { createGraph, createModel, type ModelProto, type NodeProto } from '../../onnx/index.js';
import { nodeReads } from '../../onnx/reads.js';
import type { EmittedSegment } from '../emit.js';
import { Constants } from './constants.js';
import { QuantizedDraft, RUNTIME_DOMAIN } from './draft.js';
import { type Product, ProductFinder } from './products.js';

/**
 * The same programs with int8 products.
 * @param programs index is the rank
 * @throws TandemError QUANTIZE_NOTHING where there is none to be made
 */
export const quantizePrograms = (
  programs: readonly (readonly EmittedSegment[])[],
): readonly (readonly EmittedSegment[])[] => {
  const quantized = programs.map((program) => program.map(quantizeSegment));
  if (quantized.flat().some((segment) => segment.quantized.size > 0)) return quantized;
  throw new TandemError(
    'QUANTIZE_NOTHING',
    'Expected linear layers or convolutions with float32 weights to make int8; found none. Export the model as float32, or leave int8 out.',
  );
};

const quantizeSegment = (segment: EmittedSegment): EmittedSegment => {
  const constants = new Constants(segment);
  const finder = new ProductFinder(segment, constants);
  const nodes = segment.model.graph?.node ?? [];
  const products = nodes.flatMap((node) => finder.find(node) ?? []);
  const draft = new QuantizedDraft(opsetOf(segment.model));
  const last = new Map(products.map((product) => [product.bias?.add ?? product.node, product]));
  const replaced = new Set(products.map(({ node }) => node));
  for (const node of nodes) {
    const product = last.get(node);
    if (product) draft.addProduct(product);
    else if (!replaced.has(node)) draft.keep(node);
  }
  return {
    ...segment,
    model: rewrite(segment.model, draft),
    quantized: quantizedBytes(products, nodes, constants),
    peakBytes: segment.peakBytes + draft.workBytes,
  };
};

const opsetOf = ({ opsetImport }: ModelProto): number =>
  Number(opsetImport.find(({ domain }) => domain === '' || domain === 'ai.onnx')?.version ?? 1);

const rewrite = (model: ModelProto, { nodes, initializers }: QuantizedDraft): ModelProto => {
  const { irVersion, opsetImport, graph } = model;
  const others = opsetImport.filter(({ domain }) => domain !== RUNTIME_DOMAIN);
  return createModel({
    irVersion,
    opsetImport: [...others, { domain: RUNTIME_DOMAIN, version: 1n }],
    graph: createGraph({
      name: graph?.name ?? 'segment',
      node: nodes,
      initializer: [...(graph?.initializer ?? []), ...initializers],
      input: graph?.input ?? [],
      output: graph?.output ?? [],
    }),
  });
};

/** Bytes that slices have as int8, scales included, by name; a slice that is also read as it is keeps its size. */
const quantizedBytes = (
  products: readonly Product[],
  nodes: readonly NodeProto[],
  constants: Constants,
): ReadonlyMap<string, number> => {
  const bytes = new Map<string, number>();
  for (const { weight, outputAxis } of products) {
    const [slice, ...others] = constants.slices(weight.name);
    for (const other of others) bytes.set(other, 0);
    if (slice !== undefined) bytes.set(slice, elementCount(weight.shape) + 4 * (weight.shape[outputAxis] ?? 0));
  }
  const isReplaced = new Set(products.map(({ node }) => node));
  for (const node of nodes) {
    if (constants.isConstant(node)) continue;
    const reads = isReplaced.has(node) ? [] : [...nodeReads(node)];
    for (const slice of reads.flatMap((name) => constants.slices(name))) bytes.delete(slice);
  }
  return bytes;
};
