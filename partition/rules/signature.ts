/**
 * The engine that most rules are data for. A signature names the factors along each operand's axes, as in `mk,kn->mn`
 * (Shardy's factor notation, DTensor's einsum strategies): splitting one factor splits every axis that carries it, and
 * splitting a factor that is summed away leaves the outputs partial.
 */

import { elementCount } from '../../common/tensor.js';
import type { Node } from '../graph/graph.js';
import {
  apportion,
  isAligned,
  isOverlapping,
  onAxis,
  PARTIAL,
  type Piece,
  type Placement,
  REPLICATE,
  rescalePiece,
  type Shard,
} from '../graph/placement.js';
import {
  type Facts,
  ILLEGAL,
  isStatic,
  type LocalEdit,
  type LocalShapes,
  type Match,
  type Operand,
  type PlaceContext,
  type Rule,
  type Seed,
  shapeOf,
} from './rule.js';

/** Factor of each axis; null where the axis must stay whole. */
export type Factors = readonly (string | null)[];

export interface Signature {
  readonly inputs: readonly Factors[];
  readonly outputs: readonly Factors[];
  /** Factors that are summed over. */
  readonly summed?: readonly string[];
  /** Number of indivisible parts along a factor: groups, heads. One per index where absent. */
  readonly units?: Readonly<Record<string, number>>;
  /** Factors worth splitting for the node's own sake. */
  readonly seeds?: readonly string[];
}

/** The data of a rule; what is left out has the default of an operator with one flop per output element. */
export interface RuleData extends Partial<Facts> {
  readonly signature: (node: Node) => Signature | undefined;
  readonly linear?: (node: Node) => readonly (readonly number[])[];
  readonly flops?: (node: Node) => number;
  readonly localise?: (node: Node, local: LocalShapes) => LocalEdit;
}

/**
 * Moves the inner bounds of a shard to multiples of `unit`, or undefined where a piece has fewer units than ranks, or parts that
 * overlap.
 */
export const refine = (shard: Shard, unit: number, context: PlaceContext): Shard | undefined => {
  const pieces: Piece[] = [];
  for (const { extent, ends } of shard.pieces) {
    const piece = extent % unit === 0 && !ends ? apportion(extent, extent / unit, context.speeds) : undefined;
    if (!piece) return undefined;
    pieces.push(piece);
  }
  return { ...shard, pieces };
};

/** A stretch of fewer groups than ranks: each group for some of the ranks, who share its `group / unit` parts. */
const insideGroups = (extent: number, unit: number, group: number, speeds: readonly number[]): Piece | undefined => {
  const count = extent / group;
  const first = (index: number) => Math.floor((index * speeds.length) / count);
  const bounds = [0];
  for (let index = 0; index < count; index++) {
    const piece = apportion(group, group / unit, speeds.slice(first(index), first(index + 1)));
    if (!piece) return undefined;
    bounds.push(...piece.bounds.slice(1).map((bound) => index * group + bound));
  }
  return { extent, bounds };
};

/** Like `refine` to multiples of `group`; where those are fewer than ranks, no rank has parts of two of them. */
export const refineGroups = (shard: Shard, unit: number, group: number, context: PlaceContext): Shard | undefined => {
  const aligned = refine(shard, group, context);
  if (aligned || isOverlapping(shard)) return aligned;
  const pieces = shard.pieces.map(({ extent }) =>
    extent % group === 0 && extent / group < context.speeds.length
      ? insideGroups(extent, unit, group, context.speeds)
      : undefined,
  );
  return pieces.every((piece) => piece !== undefined) ? { ...shard, pieces } : undefined;
};

export const rescale = (shard: Shard, from: number, to: number): readonly Piece[] | undefined => {
  if (from === to) return shard.pieces;
  const pieces = shard.pieces.map((piece) => rescalePiece(piece, (piece.extent * to) / from));
  return pieces.every((piece) => piece !== undefined) ? pieces : undefined;
};

/** How an operand lies when `factor` is split as `shard` splits an axis of `extent`; undefined where it cannot. */
const placeOperand = (
  factors: Factors,
  shape: readonly number[],
  factor: string,
  shard: Shard,
  extent: number,
): Placement | undefined => {
  const axis = factors.indexOf(factor);
  if (axis < 0) return REPLICATE;
  if (factors.indexOf(factor, axis + 1) >= 0) return undefined;
  const pieces = rescale(shard, extent, shape[axis] ?? 0);
  return pieces && onAxis({ ...shard, pieces }, axis);
};

const matchSignature = (
  node: Node,
  signature: Signature,
  operand: Operand,
  shard: Shard,
  context: PlaceContext,
): Match => {
  const factor = signature[operand.side][operand.index]?.[shard.axis];
  const extent = shapeOf(node[operand.side][operand.index])[shard.axis];
  if (factor === null || factor === undefined || extent === undefined) return ILLEGAL;
  const unit = extent / (signature.units?.[factor] ?? extent);
  if (!Number.isInteger(unit)) return ILLEGAL;
  if (!isAligned(shard, unit)) {
    const wanted = refine(shard, unit, context);
    return wanted ? { kind: 'wants', shards: [wanted] } : ILLEGAL;
  }
  if (signature.summed?.includes(factor) && isOverlapping(shard)) return ILLEGAL;
  const place = (side: 'inputs' | 'outputs') =>
    node[side].map((value, i) => placeOperand(signature[side][i] ?? [], shapeOf(value), factor, shard, extent));
  const inputs = place('inputs');
  const outputs = signature.summed?.includes(factor) ? node.outputs.map(() => PARTIAL) : place('outputs');
  const whole = (placement: Placement | undefined) => placement === undefined;
  if (inputs.some(whole) || outputs.some(whole)) return ILLEGAL;
  const lost = outputs.some((placement, i) => node.outputs[i] && placement?.kind === 'replicate');
  return lost ? ILLEGAL : { kind: 'row', row: { inputs: inputs as Placement[], outputs: outputs as Placement[] } };
};

const findSeeds = (signature: Signature | undefined): readonly (readonly Seed[])[] => {
  const { inputs = [], seeds = [] } = signature ?? {};
  return seeds.map((factor) =>
    inputs.flatMap((factors, input) => {
      const axis = factors.indexOf(factor);
      return axis < 0 ? [] : [{ input, axis }];
    }),
  );
};

/** One flop per element of the first output. */
export const elementwiseFlops = (node: Node): number => elementCount(shapeOf(node.outputs[0]));

/** A rule from its data. */
export const rule = ({ signature: read, ...data }: RuleData): Rule => {
  const signature = (node: Node) => (isStatic(node) ? read(node) : undefined);
  return {
    cost: 'elementwise',
    linear: () => [],
    flops: elementwiseFlops,
    ...data,
    match: (node, operand, shard, context) => {
      const found = signature(node);
      return found ? matchSignature(node, found, operand, shard, context) : ILLEGAL;
    },
    seeds: (node) => findSeeds(signature(node)),
  };
};

/** Names factors `prefix0`, `prefix1`, ... for the axes of a shape. */
export const numbered = (prefix: string, count: number): string[] =>
  Array.from({ length: count }, (_, i) => `${prefix}${i}`);

/** Factors of an operand that broadcasts to `output`: null on its axes of size 1 and where it has none. */
export const broadcastFactors = (operand: readonly number[], output: readonly number[], factors: Factors): Factors =>
  operand.map((size, axis) => {
    const at = output.length - operand.length + axis;
    return size === output[at] && size !== 1 ? (factors[at] ?? null) : null;
  });
