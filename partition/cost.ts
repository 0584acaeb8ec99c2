/** What a plan costs: time to compute, to move data in memory, and to send it, per rank. */
import type { Node, Value } from './graph.js';
import type { Provider } from './onnxruntime.js';
import { localElements, type Placement, REPLICATE } from './placement.js';
import { findRule } from './rules/index.js';
import type { Row } from './rules/rule.js';
import { byteLength, DTYPES, elementCount } from './tensor.js';

/** Rates of one device of speed 1 and of the links between ranks. */
export interface Rates {
  readonly flopsPerMs: number;
  /** Memory traffic of operators that compute little. */
  readonly bytesPerMs: number;
  readonly wireBytesPerMs: number;
  /** Of one exchange. */
  readonly latencyMs: number;
}

/**
 * Typical rates. CPU: one core with AVX-512, read off a full-size UNet's step (`tandem bench`, 803 GFLOP in 4.7 s); its wire: two
 * processes on one host, copies in and out included. The others are data-sheet orders of magnitude.
 */
export const RATES: Readonly<Record<Provider, Rates>> = {
  cpu: { flopsPerMs: 170e6, bytesPerMs: 25e6, wireBytesPerMs: 0.5e6, latencyMs: 0.7 },
  cuda: { flopsPerMs: 15e9, bytesPerMs: 800e6, wireBytesPerMs: 1e6, latencyMs: 0.3 },
  webgpu: { flopsPerMs: 4e9, bytesPerMs: 300e6, wireBytesPerMs: 1e6, latencyMs: 0.5 },
  dml: { flopsPerMs: 8e9, bytesPerMs: 400e6, wireBytesPerMs: 1e6, latencyMs: 0.5 },
  coreml: { flopsPerMs: 2e9, bytesPerMs: 100e6, wireBytesPerMs: 1e6, latencyMs: 0.5 },
};

export const nodeFlops = (node: Node): number => {
  if (node.outputs.some((output) => output && !output.shape)) return 0;
  return findRule(node)?.flops(node) ?? elementCount(node.outputs[0]?.shape ?? []);
};

const share = (value: Value | undefined, placement: Placement | undefined, rank: number): number =>
  value?.shape ? localElements(value.shape, placement ?? REPLICATE, rank) / Math.max(1, elementCount(value.shape)) : 1;

/**
 * Share of a node's work that a rank does in a row, 0 to 1: the smallest share among operands, since what is split
 * is split in all the operands that carry the split factor.
 */
export const workShare = (node: Node, row: Row, rank: number): number =>
  Math.min(
    ...node.inputs.map((value, i) => share(value, row.inputs[i], rank)),
    ...node.outputs.map((value, i) => share(value, row.outputs[i], rank)),
  );

export const valueBytes = (value: Value): number =>
  value.shape ? byteLength({ dtype: value.dtype, shape: value.shape }) : 0;

/** Bytes of a constant that the rank with the largest part holds. */
export const heldBytes = (value: Value, placement: Placement, worldSize: number): number => {
  const { shape } = value;
  if (!shape) return 0;
  const elements = Array.from({ length: worldSize }, (_, rank) => localElements(shape, placement, rank));
  return Math.max(...elements) * DTYPES[value.dtype].bytes;
};

/** Bytes of activations that a node reads and writes. */
export const traffic = (node: Node): number =>
  [...node.inputs, ...node.outputs].reduce((sum, value) => sum + (value && !value.constant ? valueBytes(value) : 0), 0);

/** Time of a node on one device of speed 1, in ms: what it computes or what it moves, whichever takes longer (roofline). */
export const nodeMs = (node: Node, rates: Rates): number =>
  Math.max(nodeFlops(node) / rates.flopsPerMs, traffic(node) / rates.bytesPerMs);
