/**
 * Attention over many tokens as one node. Written out as exporters do, `MatMul, Softmax, MatMul`, it holds the scores of all
 * pairs of tokens: half a gigabyte at the 4,096 tokens of a 64x64 latent. ONNX Runtime's `MultiHeadAttention` on a CPU goes
 * through them in tiles that stay in the cache (arXiv 2205.14135): a fifth less time for such a layer, measured on one core,
 * and next to no memory. Under about a million pairs it was slower than the three nodes, so those are left as they are.
 *
 * Done in a rank's own graph, after it was split: the planner knows only the operators of ONNX.
 */

import { elementCount, type TensorSpec } from '../../common/tensor.js';
import { floatAttribute, intAttribute, intsAttribute, type NodeProto } from '../onnx/index.js';
import type { SegmentDraft } from './segment-draft.js';

export const CONTRIB_DOMAIN = 'com.microsoft';

/** Scores (heads x queries x keys) from which the one node is faster. */
const MANY_SCORES = 4 * 1024 * 1024;

/** `Softmax(scale * query @ keysTransposed) @ values`, by names. */
interface Attention {
  readonly query: string;
  /** Keys with their last two axes exchanged, as the `MatMul` needs them. */
  readonly keysTransposed: string;
  readonly values: string;
  readonly scale: number;
  readonly output: string;
}

/** What the finder knows of a draft's tensors. */
class Names {
  readonly producers = new Map<string, NodeProto>();
  readonly readers = new Map<string, NodeProto[]>();
  readonly #draft: SegmentDraft;
  readonly #isKept: (name: string) => boolean;

  constructor(draft: SegmentDraft, isKept: (name: string) => boolean) {
    this.#draft = draft;
    this.#isKept = isKept;
    for (const node of draft.nodes) {
      for (const name of node.output) this.producers.set(name, node);
      for (const name of node.input) this.readers.set(name, [...(this.readers.get(name) ?? []), node]);
    }
  }

  spec(name: string): TensorSpec | undefined {
    return this.#draft.knownSpec(name);
  }

  /** The node that makes a tensor which nobody but one node reads. */
  privateProducer(name: string): NodeProto | undefined {
    return this.readers.get(name)?.length === 1 && !this.#isKept(name) ? this.producers.get(name) : undefined;
  }

  /** A node that only multiplies by a number. */
  scaling(node: NodeProto | undefined): { readonly of: string; readonly by: number } | undefined {
    const [a = '', b = ''] = node?.input ?? [];
    const [scaleA, scaleB] = [this.#scalar(a), this.#scalar(b)];
    if (node?.opType === 'Mul' && scaleB !== undefined) return { of: a, by: scaleB };
    if (node?.opType === 'Mul' && scaleA !== undefined) return { of: b, by: scaleA };
    if (node?.opType === 'Div' && scaleB !== undefined) return { of: a, by: 1 / scaleB };
    return undefined;
  }

  #scalar(name: string): number | undefined {
    const source = this.#draft.constants.get(name)?.source;
    if (source === undefined || !('data' in source) || source.dtype !== 'float32') return undefined;
    if (elementCount(source.shape) !== 1) return undefined;
    const { buffer, byteOffset } = source.data;
    return new DataView(buffer, byteOffset).getFloat32(0, true);
  }
}

/**
 * Replaces attention over many tokens in a draft.
 * @param isKept whether a tensor is read after the segment, or sent
 */
export const fuseAttention = (draft: SegmentDraft, isKept: (name: string) => boolean): void => {
  const names = new Names(draft, isKept);
  const found = new Map(
    draft.nodes.flatMap((node) => {
      const attention = findAttention(node, names);
      return attention ? [[node, attention] as const] : [];
    }),
  );
  if (found.size === 0) return;
  const nodes = draft.nodes;
  draft.nodes = [];
  for (const node of nodes) {
    const attention = found.get(node);
    if (attention) addAttention(draft, attention);
    else draft.nodes.push(node);
  }
  dropUnread(draft, isKept);
};

/** The attention that ends in this `MatMul`. */
const findAttention = (last: NodeProto, names: Names): Attention | undefined => {
  const softmax = names.privateProducer(last.input[0] ?? '');
  if (last.opType !== 'MatMul' || softmax?.opType !== 'Softmax') return undefined;
  const scores = unscaled(softmax.input[0] ?? '', (name) => names.privateProducer(name), names);
  const first = names.privateProducer(scores.name);
  if (first?.opType !== 'MatMul' || !fits(first, softmax, last, names)) return undefined;
  const anyProducer = (name: string) => names.producers.get(name);
  const query = unscaled(first.input[0] ?? '', anyProducer, names);
  const keys = unscaled(first.input[1] ?? '', anyProducer, names);
  return {
    query: query.name,
    keysTransposed: keys.name,
    values: last.input[1] ?? '',
    scale: scores.scale * query.scale * keys.scale,
    output: last.output[0] ?? '',
  };
};

/** Looks through multiplications with numbers. */
const unscaled = (
  name: string,
  producer: (name: string) => NodeProto | undefined,
  names: Names,
): { readonly name: string; readonly scale: number } => {
  const scaled = names.scaling(producer(name));
  if (!scaled) return { name, scale: 1 };
  const inner = unscaled(scaled.of, producer, names);
  return { name: inner.name, scale: inner.scale * scaled.by };
};

/** Whether the operands are whole and alike, and the scores many. */
const fits = (first: NodeProto, softmax: NodeProto, last: NodeProto, names: Names): boolean => {
  const [query, keys, values] = [first.input[0], first.input[1], last.input[1]].map((name) => names.spec(name ?? ''));
  const scores = names.spec(first.output[0] ?? '');
  const isKnown = query && keys && values && scores && names.spec(last.output[0] ?? '');
  if (!isKnown || query.dtype !== 'float32') return false;
  const axis = Number(softmax.attribute.find(({ name }) => name === 'axis')?.i ?? Number.NaN);
  const rank = scores.shape.length;
  const batch = (shape: readonly number[]) => shape.slice(0, -2).join();
  const isAlike = [query, keys, values].every(({ shape }) => batch(shape) === batch(scores.shape));
  return rank >= 3 && (axis === -1 || axis === rank - 1) && isAlike && elementCount(scores.shape) >= MANY_SCORES;
};

/** Every head is a batch entry of its own, so that nothing needs to be laid out anew. */
const addAttention = (draft: SegmentDraft, { query, keysTransposed, values, scale, output }: Attention): void => {
  const shapeOf = (name: string): readonly number[] => draft.knownSpec(name)?.shape ?? [];
  const keys = shapeOf(keysTransposed);
  const rank = keys.length;
  const perm = [...Array.from({ length: rank - 2 }, (_, axis) => axis), rank - 1, rank - 2];
  const keysSpec = {
    name: `${output}@keys`,
    dtype: 'float32',
    shape: perm.map((axis) => keys[axis] ?? 0),
  } as const;
  draft.addNode('Transpose', [keysTransposed], keysSpec, [intsAttribute('perm', perm)]);
  const operands = [
    flatten(draft, query, `${output}@query`),
    flatten(draft, keysSpec.name, `${output}@keys`),
    flatten(draft, values, `${output}@values`),
  ];
  const made = { name: `${output}@heads`, dtype: 'float32', shape: flat(shapeOf(output)) } as const;
  const attributes = [intAttribute('num_heads', 1), floatAttribute('scale', scale)];
  draft.addNode('MultiHeadAttention', operands, made, attributes, CONTRIB_DOMAIN);
  const shape = draft.addInts(`${output}@shape`, shapeOf(output));
  draft.addNode('Reshape', [made.name, shape], { name: output, dtype: 'float32', shape: shapeOf(output) });
};

const flat = (shape: readonly number[]): readonly number[] => [elementCount(shape.slice(0, -2)), ...shape.slice(-2)];

/** All but the last two axes as one. */
const flatten = (draft: SegmentDraft, from: string, prefix: string): string => {
  const shape = flat(draft.knownSpec(from)?.shape ?? []);
  const dims = draft.addInts(`${prefix}@shape`, shape);
  return draft.addNode('Reshape', [from, dims], { name: `${prefix}@flat`, dtype: 'float32', shape });
};

/** Drops nodes whose results nobody reads any more. */
const dropUnread = (draft: SegmentDraft, isKept: (name: string) => boolean): void => {
  const read = new Set<string>();
  const kept = [...draft.nodes].reverse().filter((node) => {
    if (!node.output.some((name) => read.has(name) || isKept(name))) return false;
    for (const name of node.input) read.add(name);
    return true;
  });
  for (const node of draft.nodes) {
    if (!kept.includes(node)) for (const name of node.output) draft.defined.delete(name);
  }
  draft.nodes = kept.reverse();
};
