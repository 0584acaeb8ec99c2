/** What a plan costs: time to compute, to move data in memory, and to send it, per rank. */

import { byteLength, DTYPES, elementCount } from '../../common/tensor.js';
import type { Conversion } from '../graph/collective.js';
import type { Node, Value } from '../graph/graph.js';
import { localElements, type Placement, REPLICATE } from '../graph/placement.js';
import { findFacts, findRule, operatorKey } from '../rules/index.js';
import type { OperatorClass, Row } from '../rules/rule.js';
import type { ClassRates, Rates } from './rates.js';

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

/** A rank's part of a tensor that is larger than its device takes. */
export interface Oversized {
  readonly value: Value;
  readonly bytes: number;
}

/** Operands of a node, in a row, of which a rank's part is above a limit. */
export const oversizedOperands = (node: Node, row: Row, rank: number, limit: number): readonly Oversized[] => {
  const check = (values: Node['inputs'], placements: Row['inputs']) =>
    values.flatMap((value, i) => {
      const bytes = value ? localBytes(value, placements[i], rank) : 0;
      return value && bytes > limit ? [{ value, bytes }] : [];
    });
  return [...check(node.inputs, row.inputs), ...check(node.outputs, row.outputs)];
};

const localBytes = (value: Value, placement: Placement | undefined, rank: number): number =>
  value.shape ? localElements(value.shape, placement ?? REPLICATE, rank) * DTYPES[value.dtype].bytes : 0;

/** Bytes of a constant that the rank with the largest part holds. */
export const heldBytes = (value: Value, placement: Placement, worldSize: number): number =>
  Math.max(...Array.from({ length: worldSize }, (_, rank) => localBytes(value, placement, rank)));

/** A plan asks for the class of every node in every row; a node never changes. */
const classes = new WeakMap<Node, { readonly kind: OperatorClass | undefined }>();

/** The class of an operator; undefined for those that take no time to speak of. */
export const classOf = (node: Node): OperatorClass | undefined => {
  const known = classes.get(node) ?? { kind: findClass(node) };
  classes.set(node, known);
  return known.kind;
};

const findClass = (node: Node): OperatorClass | undefined => {
  const { cost } = findFacts(node);
  if (cost === 'view') return undefined;
  return typeof cost === 'function' ? cost(node) : cost;
};

/** Operators with the same rates: by operator, but a product with weights is another thing than one of two activations. */
export const rateKey = (node: Node): string => {
  const isAttention = findFacts(node).isProduct && classOf(node) === 'attention';
  return isAttention ? `${operatorKey(node)} of activations` : operatorKey(node);
};

/** What an operator has to do on one rank. */
export interface Load {
  readonly flops: number;
  readonly readBytes: number;
  readonly writtenBytes: number;
}

/** All of a node's work; weights are read as well. */
export const wholeLoad = (node: Node): Load => ({
  flops: nodeFlops(node),
  readBytes: node.inputs.reduce((sum, value) => sum + (value ? valueBytes(value) : 0), 0),
  writtenBytes: node.outputs.reduce((sum, value) => sum + (value ? valueBytes(value) : 0), 0),
});

const rankLoad = (node: Node, row: Row, rank: number): Load => ({
  flops: nodeFlops(node) * workShare(node, row, rank),
  readBytes: node.inputs.reduce((sum, value, i) => sum + (value ? localBytes(value, row.inputs[i], rank) : 0), 0),
  writtenBytes: node.outputs.reduce((sum, value, i) => sum + (value ? localBytes(value, row.outputs[i], rank) : 0), 0),
});

/** ms */
export const loadMs = ({ flops, readBytes, writtenBytes }: Load, rates: ClassRates): number =>
  rates.overheadMs + flops / rates.flopsPerMs + readBytes / rates.readBytesPerMs + writtenBytes / rates.writeBytesPerMs;

/** Time of what an operator has to do, in ms. */
export const workMs = (
  { kind, key, ...load }: Load & { readonly kind?: OperatorClass | undefined; readonly key: string },
  { classes, operators }: Rates,
): number => (kind === undefined ? classes.move.overheadMs : loadMs(load, operators[key] ?? classes[kind]));

/** As `workMs`; asked for every node in every row, so it makes nothing. */
const timeOf = (node: Node, load: Load, { classes, operators }: Rates): number => {
  const kind = classOf(node);
  return kind === undefined ? classes.move.overheadMs : loadMs(load, operators[rateKey(node)] ?? classes[kind]);
};

/** Time of a whole node on one device, in ms. */
export const nodeMs = (node: Node, rates: Rates): number => timeOf(node, wholeLoad(node), rates);

/** Time of a rank's part of a node, in ms. */
export const rankMs = (node: Node, row: Row, rank: number, rates: Rates): number =>
  timeOf(node, rankLoad(node, row, rank), rates);

/** Time to copy bytes in memory, in ms. */
export const copyMs = (bytes: number, { classes: { move } }: Rates): number =>
  loadMs({ flops: 0, readBytes: bytes, writtenBytes: bytes }, move);

/**
 * Time in which a rank cuts up, adds up or joins what a collective moves, in ms. What an exchange costs whatever its size is not
 * in it.
 */
export const collectiveMs = (
  value: Value,
  conversion: Conversion,
  rank: number,
  rates: Rates,
  worldSize: number,
): number => {
  const { elementwise, move } = rates.classes;
  const copied = valueBytes(value) * (1 / move.readBytesPerMs + 1 / move.writeBytesPerMs);
  const added = (worldSize - 1) * (2 / elementwise.readBytesPerMs + 1 / elementwise.writeBytesPerMs);
  switch (conversion.kind) {
    case 'all-reduce':
      return valueBytes(value) * added;
    case 'reduce-scatter':
      return copied + localBytes(value, conversion.to, rank) * added;
    case 'all-gather':
      return copied;
    case 'all-to-all':
    case 'halo':
      return (
        localBytes(value, conversion.from, rank) / move.readBytesPerMs +
        localBytes(value, conversion.to, rank) / move.writeBytesPerMs
      );
  }
};
