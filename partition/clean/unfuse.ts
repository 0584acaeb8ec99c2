/**
 * Fused operators in their parts. ONNX Runtime's transformer optimiser writes operators for CUDA that the CPU provider, which
 * folds graphs here, has no kernels for; and a fused operator hides the seams at which it could be split. So they are taken
 * apart before folding: every rank's segments are optimised again for its own provider afterwards.
 *
 * Nothing is known of shapes yet, so each operator becomes parts that hold for any. What an operator computes is from ONNX
 * Runtime's docs/ContribOperators.md.
 */
import { TandemError } from '../../common/errors.js';
import { DTYPES } from '../../common/tensor.js';
import { CONTRIB_DOMAIN, opsetOf } from '../graph/graph.js';
import {
  type AttributeProto,
  createGraph,
  createNode,
  createTensor,
  floatAttribute,
  type GraphProto,
  intAttribute,
  intsAttribute,
  type ModelProto,
  type NodeProto,
  type TensorProto,
} from '../onnx/index.js';

interface Operation {
  readonly op: string;
  readonly inputs: readonly string[];
  readonly attributes?: readonly AttributeProto[];
  readonly domain?: string;
}

/** Collects the parts of one node, which are named after it. */
class Parts {
  readonly nodes: NodeProto[] = [];
  readonly constants: TensorProto[] = [];
  readonly #node: NodeProto;
  readonly #prefix: string;
  readonly #opset: number;

  constructor(node: NodeProto, opset: number) {
    this.#node = node;
    // Outputs have names of their own, nodes need not.
    this.#prefix = node.output.find((name) => name !== '') ?? node.name;
    this.#opset = opset;
  }

  input(index: number): string | undefined {
    return this.#node.input[index] || undefined;
  }

  /** A required input. */
  given(index: number): string {
    const name = this.input(index);
    if (name !== undefined) return name;
    throw new TandemError(
      'MODEL_GRAPH',
      `Node "${this.#node.name}" (${this.#node.opType}) lacks its input ${index}; the model’s graph is broken. Export it again.`,
    );
  }

  int(name: string, otherwise: number): number {
    return Number(this.#node.attribute.find((attribute) => attribute.name === name)?.i ?? otherwise);
  }

  float(name: string, otherwise: number): number {
    return this.#node.attribute.find((attribute) => attribute.name === name)?.f ?? otherwise;
  }

  /** The node's attributes of these names, where it has them. */
  attributes(...names: readonly string[]): readonly AttributeProto[] {
    return this.#node.attribute.filter(({ name }) => names.includes(name));
  }

  ints(values: readonly number[]): string {
    return this.#constant({
      dataType: DTYPES.int64.code,
      dims: [BigInt(values.length)],
      rawData: new Uint8Array(BigInt64Array.from(values, BigInt).buffer),
    });
  }

  floats(values: readonly number[]): string {
    return this.#constant({
      dataType: DTYPES.float32.code,
      dims: [BigInt(values.length)],
      rawData: new Uint8Array(Float32Array.from(values).buffer),
    });
  }

  #constant(tensor: Parameters<typeof createTensor>[0]): string {
    const name = this.#fresh('constant');
    this.constants.push(createTensor({ ...tensor, name }));
    return name;
  }

  #fresh(what: string): string {
    return `${this.#prefix}@${what}${this.nodes.length}.${this.constants.length}`;
  }

  add(op: string, inputs: readonly string[], ...attributes: readonly AttributeProto[]): string {
    return this.#push({ op, inputs, attributes }, 1)[0] ?? '';
  }

  addContrib(op: string, inputs: readonly string[], ...attributes: readonly AttributeProto[]): string {
    return this.#push({ op, inputs, attributes, domain: CONTRIB_DOMAIN }, 1)[0] ?? '';
  }

  /** Equal parts along an axis; since opset 18 their number is to be said. */
  split(input: string, axis: number, count: number): readonly string[] {
    const number = this.#opset >= 18 ? [intAttribute('num_outputs', count)] : [];
    return this.#push({ op: 'Split', inputs: [input], attributes: [intAttribute('axis', axis), ...number] }, count);
  }

  #push({ op, inputs, attributes = [], domain = '' }: Operation, outputs: number): readonly string[] {
    const name = this.#fresh(op);
    const output = Array.from({ length: outputs }, (_, i) => (outputs === 1 ? name : `${name}.${i}`));
    this.nodes.push(createNode({ name, opType: op, domain, input: [...inputs], output, attribute: [...attributes] }));
    return output;
  }

  /** A weight that may be of higher precision than what it is applied to. */
  like(weight: string, x: string): string {
    return this.#opset >= 15 ? this.add('CastLike', [weight, x]) : weight;
  }

  sum(first: string, ...others: readonly (string | undefined)[]): string {
    return others.reduce<string>((sum, other) => (other === undefined ? sum : this.add('Add', [sum, other])), first);
  }

  /** Gives the node's outputs their names; those that are undefined must not be wanted. */
  finish(...results: readonly (string | undefined)[]): boolean {
    const wanted = this.#node.output;
    if (wanted.some((name, i) => name !== '' && results[i] === undefined)) return false;
    wanted.forEach((name, i) => {
      const result = results[i];
      if (name !== '' && result !== undefined)
        this.nodes.push(createNode({ name: `${name}@result`, opType: 'Identity', input: [result], output: [name] }));
    });
    return true;
  }
}

const TO_CHANNELS_FIRST = intsAttribute('perm', [0, 3, 1, 2]);
const TO_CHANNELS_LAST = intsAttribute('perm', [0, 2, 3, 1]);
const LAST = intAttribute('axis', -1);

/** Image norm by groups of channels; `x` is `[batch, height, width, channels]`, or with `channels_last` 0 channels are axis 1. */
const groupNorm = (parts: Parts, x: string, gamma: string, beta: string): string => {
  const isLast = parts.int('channels_last', 1) !== 0;
  const groups = parts.int('groups', 1);
  const image = isLast ? parts.add('Transpose', [x], TO_CHANNELS_FIRST) : x;
  const grouped = parts.add('Reshape', [image, parts.ints([0, groups, -1])]);
  const [ones, zeros] = [1, 0].map((value) => parts.like(parts.floats(Array(groups).fill(value)), x));
  const epsilon = floatAttribute('epsilon', parts.float('epsilon', 1e-5));
  const normed = parts.add('InstanceNormalization', [grouped, ones ?? '', zeros ?? ''], epsilon);
  const back = parts.add('Reshape', [normed, parts.add('Shape', [image])]);
  const perChannel = (weight: string) => parts.add('Reshape', [parts.like(weight, x), parts.ints([1, -1, 1, 1])]);
  const scaled = parts.add('Mul', [back, perChannel(gamma)]);
  const shifted = parts.add('Add', [scaled, perChannel(beta)]);
  const isSilu = parts.int('activation', 0) === 1;
  const result = isSilu ? parts.add('Mul', [shifted, parts.add('Sigmoid', [shifted])]) : shifted;
  return isLast ? parts.add('Transpose', [result], TO_CHANNELS_LAST) : result;
};

/** `[batch, channels]` or a whole image, as `[batch, 1, 1, channels]` or as it is. */
const asImage = (parts: Parts, skip: string): string => {
  const shape = parts.add('Shape', [skip]);
  const slice = (from: string, start: number, end: number) =>
    parts.add('Slice', [from, parts.ints([start]), parts.ints([end])]);
  const padded = parts.add('Concat', [slice(shape, 1, -1), parts.ints([1, 1])], intAttribute('axis', 0));
  const sizes = [
    slice(shape, 0, 1),
    slice(padded, 0, 2),
    parts.add('Slice', [shape, parts.ints([-1]), parts.ints([9])]),
  ];
  return parts.add('Reshape', [skip, parts.add('Concat', sizes, intAttribute('axis', 0))]);
};

const skipNorm = (parts: Parts, norm: 'LayerNormalization' | 'SimplifiedLayerNormalization'): boolean => {
  const isSimplified = norm === 'SimplifiedLayerNormalization';
  const [beta, bias] = isSimplified ? [undefined, parts.input(3)] : [parts.input(3), parts.input(4)];
  const sum = parts.sum(parts.given(0), bias, parts.given(1));
  const epsilon = floatAttribute('epsilon', parts.float('epsilon', 1e-12));
  const weights = [parts.given(2), ...(beta === undefined ? [] : [beta])];
  return parts.finish(parts.add(norm, [sum, ...weights], LAST, epsilon), undefined, undefined, sum);
};

/** Queries, keys and values `[batch, tokens, heads * size]` of a packed `[batch, tokens, heads, count, size]`. */
const unpack = (parts: Parts, packed: string, count: number): readonly string[] =>
  parts.split(packed, 3, count).map((part) => parts.add('Reshape', [part, parts.ints([0, 0, -1])]));

const HEADS = ['num_heads', 'scale', 'unidirectional', 'mask_filter_value'] as const;

/** With its inputs apart and without bias, as the rules take it. */
const multiHead = (parts: Parts): boolean => {
  const [key, value, bias, padding, added] = [1, 2, 3, 4, 5].map((index) => parts.input(index));
  if ([6, 7, 8, 9].some((index) => parts.input(index) !== undefined) || padding !== undefined) return false;
  const isPacked = key === undefined || value === undefined;
  if (!isPacked && bias === undefined) return false;
  const packed = () =>
    key === undefined ? unpack(parts, parts.given(0), 3) : [parts.given(0), ...unpack(parts, key, 2)];
  const apart = isPacked ? packed() : [parts.given(0), key, value];
  const biases = bias === undefined ? [] : parts.split(bias, 0, 3);
  const inputs = apart.map((input, i) => parts.sum(input, biases[i]));
  const mask = added === undefined ? [] : ['', '', added];
  return parts.finish(parts.addContrib('MultiHeadAttention', [...inputs, ...mask], ...parts.attributes(...HEADS)));
};

/** Its projection, and attention by itself. Padding masks, caches and parts of unequal size are left as they are. */
const attention = (parts: Parts): boolean => {
  const added = parts.input(5);
  const isPlain = [3, 4, 6].every((index) => parts.input(index) === undefined);
  if (!isPlain || parts.attributes('qkv_hidden_sizes', 'do_rotary').length > 0) return false;
  const product = parts.add('MatMul', [parts.given(0), parts.given(1)]);
  const inputs = parts.split(parts.sum(product, parts.input(2)), -1, 3);
  const mask = added === undefined ? [] : ['', '', added];
  return parts.finish(parts.addContrib('MultiHeadAttention', [...inputs, ...mask], ...parts.attributes(...HEADS)));
};

/** A convolution with channels last, in its weight `[out, height, width, in]` as well. */
const channelsLastConv = (parts: Parts): boolean => {
  const image = parts.add('Transpose', [parts.given(0)], TO_CHANNELS_FIRST);
  const weight = parts.add('Transpose', [parts.given(1)], TO_CHANNELS_FIRST);
  const bias = parts.input(2);
  const kept = parts.attributes('auto_pad', 'dilations', 'group', 'kernel_shape', 'pads', 'strides');
  const result = parts.add('Conv', [image, weight, ...(bias === undefined ? [] : [bias])], ...kept);
  return parts.finish(parts.add('Transpose', [result], TO_CHANNELS_LAST));
};

/** Each operator's parts; false where this form of it is left as it is. */
const RECIPES: Readonly<Record<string, (parts: Parts) => boolean>> = {
  BiasAdd: (parts) => parts.finish(parts.sum(parts.given(0), parts.given(1), parts.given(2))),
  BiasSplitGelu: (parts) => {
    const [left = '', right = ''] = parts.split(parts.sum(parts.given(0), parts.given(1)), -1, 2);
    return parts.finish(parts.add('Mul', [left, parts.addContrib('Gelu', [right])]));
  },
  FastGelu: (parts) => {
    const bias = parts.input(1);
    if (bias === undefined) return false;
    return parts.finish(parts.addContrib('FastGelu', [parts.sum(parts.given(0), bias)]));
  },
  BiasGelu: (parts) => parts.finish(parts.addContrib('Gelu', [parts.sum(parts.given(0), parts.given(1))])),
  GroupNorm: (parts) => parts.finish(groupNorm(parts, parts.given(0), parts.given(1), parts.given(2))),
  SkipGroupNorm: (parts) => {
    const sum = parts.sum(parts.given(0), parts.input(4), asImage(parts, parts.given(3)));
    return parts.finish(groupNorm(parts, sum, parts.given(1), parts.given(2)), sum);
  },
  SkipLayerNormalization: (parts) => skipNorm(parts, 'LayerNormalization'),
  SkipSimplifiedLayerNormalization: (parts) => skipNorm(parts, 'SimplifiedLayerNormalization'),
  NhwcConv: channelsLastConv,
  MultiHeadAttention: multiHead,
  Attention: attention,
};

const unfuseNode = (node: NodeProto, opset: number): Parts | undefined => {
  const recipe = node.domain === CONTRIB_DOMAIN ? RECIPES[node.opType] : undefined;
  if (!recipe) return undefined;
  const parts = new Parts(node, opset);
  return recipe(parts) ? parts : undefined;
};

/**
 * The same model with ONNX Runtime's fused operators in their parts, where they have any.
 * @returns its graph; nodes that are not taken apart are shared with `model`
 * @throws TandemError MODEL_GRAPH where a fused node lacks an input
 */
export const unfuse = (model: ModelProto): GraphProto => {
  const graph = model.graph ?? createGraph({});
  const opset = opsetOf(model.opsetImport);
  const constants: TensorProto[] = [];
  const node = graph.node.flatMap((fused) => {
    const parts = unfuseNode(fused, opset);
    if (!parts) return [fused];
    constants.push(...parts.constants);
    return parts.nodes;
  });
  return createGraph({ ...graph, node, initializer: [...graph.initializer, ...constants] });
};
