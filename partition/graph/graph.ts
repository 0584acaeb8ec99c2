/**
 * The graph that the stages pass on: nodes hold values, not names; names matter only in files.
 * Every value has a static type and shape once `fold` has run, except where an operator's output size depends on data.
 */

import type { DType, OpenShape } from '../../common/tensor.js';
import type { AttributeProto } from '../onnx/index.js';
import type { WeightSource } from '../read/index.js';
import type { WeightSlice } from './slice.js';

/** A constant's data: bytes in a file that are copied, never held, or a few bytes at hand; or a rank's part of either. */
export type Constant =
  | { readonly kind: 'weight'; readonly source: WeightSource }
  | { readonly kind: 'inline'; readonly data: Uint8Array }
  | { readonly kind: 'part'; readonly slice: WeightSlice };

export interface Value {
  readonly name: string;
  readonly dtype: DType;
  /** Undefined where any of it depends on data. */
  readonly shape: readonly number[] | undefined;
  /** Of a value without `shape`: what is known of it all the same. */
  readonly openShape?: OpenShape;
  readonly constant?: Constant;
}

export type Attributes = ReadonlyMap<string, AttributeProto>;

export interface Node {
  readonly name: string;
  readonly op: string;
  readonly domain: string;
  readonly attributes: Attributes;
  /** Undefined where an optional input is left out. */
  readonly inputs: readonly (Value | undefined)[];
  readonly outputs: readonly (Value | undefined)[];
}

/** Nodes are in topological order. */
export interface Graph {
  readonly nodes: readonly Node[];
  readonly inputs: readonly Value[];
  readonly outputs: readonly Value[];
  readonly opsets: readonly { readonly domain: string; readonly version: number }[];
  readonly irVersion: number;
}

/** All that is known of a value's shape; never that of a scalar where nothing is. */
export const knownShape = ({ shape, openShape }: Value): OpenShape => shape ?? openShape ?? null;

/** The domain of ONNX Runtime's own operators. */
export const CONTRIB_DOMAIN = 'com.microsoft';

/** Version of ONNX's own operators. */
export const opsetOf = (opsets: readonly { readonly domain: string; readonly version: number | bigint }[]): number =>
  Number(opsets.find(({ domain }) => domain === '' || domain === 'ai.onnx')?.version ?? 1);

/** A constant as the slice of its source that it is, which may be all of it; undefined where the value is none. */
export const sliceOf = ({ name, dtype, shape = [], constant }: Value): WeightSlice | undefined => {
  if (!constant || constant.kind === 'part') return constant?.slice;
  const source = constant.kind === 'weight' ? constant.source : { dtype, shape, data: constant.data };
  const [size] = shape;
  return size === undefined ? { name, source, axis: -1, ranges: [] } : { name, source, axis: 0, ranges: [[0, size]] };
};

/** The constants that a graph's nodes read, each once, in order. */
export const constantsOf = ({ nodes }: Pick<Graph, 'nodes'>): ReadonlySet<Value> =>
  new Set(nodes.flatMap(({ inputs }) => inputs.flatMap((value) => (value?.constant ? [value] : []))));

/** Who makes a value, and who reads it (a node that reads it twice counts once). */
export interface Uses {
  readonly producer: ReadonlyMap<Value, Node>;
  readonly consumers: ReadonlyMap<Value, readonly Node[]>;
}

export const findUses = (graph: Pick<Graph, 'nodes'>): Uses => {
  const producer = new Map<Value, Node>();
  const consumers = new Map<Value, Node[]>();
  for (const node of graph.nodes) {
    for (const output of node.outputs) if (output) producer.set(output, node);
    for (const input of new Set(node.inputs)) {
      if (!input) continue;
      const list = consumers.get(input);
      if (list) list.push(node);
      else consumers.set(input, [node]);
    }
  }
  return { producer, consumers };
};

/** Drops nodes whose results nothing reads. */
export const prune = (graph: Graph): Graph => {
  const live = new Set<Value>(graph.outputs);
  const kept: Node[] = [];
  for (const node of [...graph.nodes].reverse()) {
    if (!node.outputs.some((output) => output && live.has(output))) continue;
    kept.push(node);
    for (const input of node.inputs) if (input) live.add(input);
  }
  return { ...graph, nodes: kept.reverse() };
};

export const intAttribute = (node: Node, name: string, otherwise: number): number => {
  const attribute = node.attributes.get(name);
  return attribute?.i === undefined ? otherwise : Number(attribute.i);
};

export const intsAttribute = (node: Node, name: string): readonly number[] | undefined =>
  node.attributes.get(name)?.ints.map(Number);

export const floatAttribute = (node: Node, name: string, otherwise: number): number =>
  node.attributes.get(name)?.f ?? otherwise;

export const stringAttribute = (node: Node, name: string, otherwise: string): string => {
  const bytes = node.attributes.get(name)?.s;
  return bytes === undefined ? otherwise : new TextDecoder().decode(bytes);
};

/** The numbers of an inline integer constant, or undefined where the value is not one. */
export const constantInts = (value: Value | undefined): readonly number[] | undefined => {
  if (value?.constant?.kind !== 'inline') return undefined;
  const { data } = value.constant;
  const copy = new Uint8Array(data);
  if (value.dtype === 'int64') return Array.from(new BigInt64Array(copy.buffer), Number);
  if (value.dtype === 'int32') return Array.from(new Int32Array(copy.buffer));
  return undefined;
};

/** The numbers of an inline float32 constant, or undefined where the value is not one. */
export const constantFloats = (value: Value | undefined): readonly number[] | undefined =>
  value?.constant?.kind === 'inline' && value.dtype === 'float32'
    ? Array.from(new Float32Array(new Uint8Array(value.constant.data).buffer))
    : undefined;

/** An axis counted from the front. */
export const normaliseAxis = (axis: number, rank: number): number => (axis < 0 ? axis + rank : axis);
