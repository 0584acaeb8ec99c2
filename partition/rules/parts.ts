/** Operators that join parts of an axis, or take them apart: Concat, Split and Slice. */
import { constantInts, intAttribute, type Node, normaliseAxis, type Value } from '../graph/graph.js';
import {
  apportion,
  type Piece,
  REPLICATE,
  rankSize,
  rescalePiece,
  type Shard,
  shardExtent,
} from '../graph/placement.js';
import type { Table } from './registry.js';
import {
  ILLEGAL,
  isStatic,
  type LocalEdit,
  type LocalShapes,
  type Match,
  type PlaceContext,
  type Rule,
  shapeOf,
} from './rule.js';

const noFlops = () => 0;
const firstInput = () => [[0]];

/** How the other parts lie, where that is to be chosen; undefined leaves it to the shard of the one that is known. */
type Fill = (part: number) => Shard | undefined;

/** Shards of the parts of an axis that lie one after another, from the shard of one of them. */
const fillParts = (
  extents: readonly number[],
  known: number,
  shard: Shard,
  context: PlaceContext,
  fill: Fill = () => undefined,
): readonly Shard[] | undefined => {
  const shards = extents.map((extent, i) => (i === known ? shard : (fill(i) ?? fillLike(extent, shard, context))));
  return shards.every((part) => part !== undefined) ? shards : undefined;
};

const finest = (shards: readonly Shard[]): Shard | undefined =>
  shards.reduce<Shard | undefined>(
    (best, shard) => (shard.pieces.length > (best?.pieces.length ?? 1) ? shard : best),
    undefined,
  );

/** What the graph around has cut most finely of the parts: a projection cut in two, one part in three and one in two. */
const fillFinest =
  (extents: readonly number[], { axis }: Shard, context: PlaceContext, values: Values): Fill =>
  (part) => {
    const along = (value: Value | undefined) =>
      (value ? (context.known?.(value) ?? []) : []).filter((shard) => shard.axis === axis);
    const ofWhole = along(values.whole).flatMap((shard) => cutAtSeams(extents, shard)?.[part] ?? []);
    return finest([...along(values.parts[part]), ...ofWhole]);
  };

/** Equal parts are split alike, others in the same proportions where that comes out whole. */
const fillLike = (extent: number, shard: Shard, context: PlaceContext): Shard | undefined => {
  if (extent === shardExtent(shard)) return shard;
  const [only, ...others] = shard.pieces;
  const scaled = only && others.length === 0 ? rescalePiece(only, extent) : undefined;
  const piece = scaled ?? apportion(extent, extent, context.speeds);
  return piece && { ...shard, pieces: [piece] };
};

/** Cuts a shard's pieces at the seams between parts: each part's own shard, or undefined where a piece straddles a seam. */
const cutAtSeams = (extents: readonly number[], shard: Shard): readonly Shard[] | undefined => {
  const left = [...shard.pieces];
  const parts: Shard[] = [];
  for (const extent of extents) {
    const pieces: Piece[] = [];
    for (let size = 0; size < extent; ) {
      const piece = left.shift();
      if (!piece || size + piece.extent > extent) return undefined;
      pieces.push(piece);
      size += piece.extent;
    }
    parts.push({ ...shard, pieces });
  }
  return parts;
};

/** One piece per part. */
const wantSeams = (extents: readonly number[], shard: Shard, context: PlaceContext): Match => {
  const pieces = extents.map((extent) => apportion(extent, extent, context.speeds));
  return pieces.every((piece) => piece !== undefined) ? { kind: 'wants', shards: [{ ...shard, pieces }] } : ILLEGAL;
};

const join = (parts: readonly Shard[], axis: number): Shard => ({
  kind: 'shard',
  axis,
  pieces: parts.flatMap((part) => part.pieces),
});

/**
 * Match for an operator that joins parts along `axis` into a whole (Concat), or the reverse (Split, Slice).
 * @param extents of the parts along the axis, in order
 * @param part which part the operand is; undefined where it is the whole
 */
const matchParts = (
  extents: readonly number[],
  part: number | undefined,
  shard: Shard,
  context: PlaceContext,
  values: Values,
  row: (whole: Shard, parts: readonly Shard[]) => Match,
): Match => {
  if (part === undefined) {
    const parts = cutAtSeams(extents, shard);
    return parts ? row(shard, parts) : wantSeams(extents, shard, context);
  }
  const fill = (how?: Fill) => {
    const parts = fillParts(extents, part, shard, context, how);
    return parts ? row(join(parts, shard.axis), parts) : ILLEGAL;
  };
  const [plain, finer] = [fill(), fill(fillFinest(extents, shard, context, values))];
  if (plain.kind !== 'row') return finer;
  return finer.kind === 'row' ? { ...plain, finer: finer.row } : plain;
};

/** The whole and its parts as the graph has them; of a slice's parts only one is there. */
interface Values {
  readonly whole: Value | undefined;
  readonly parts: readonly (Value | undefined)[];
}

const otherAxes = (node: Node, shard: Shard): Match => ({
  kind: 'row',
  row: {
    inputs: node.inputs.map((value) => (shapeOf(value).length > shard.axis ? shard : REPLICATE)),
    outputs: node.outputs.map(() => shard),
  },
});

const concatRule: Rule = {
  cost: 'move',
  match(node, operand, shard, context) {
    if (!isStatic(node)) return ILLEGAL;
    const axis = normaliseAxis(intAttribute(node, 'axis', 0), shapeOf(node.outputs[0]).length);
    if (axis !== shard.axis) return otherAxes(node, shard);
    const extents = node.inputs.map((value) => shapeOf(value)[axis] ?? 0);
    const part = operand.side === 'inputs' ? operand.index : undefined;
    const values = { whole: node.outputs[0], parts: node.inputs };
    return matchParts(extents, part, shard, context, values, (whole, parts) => ({
      kind: 'row',
      row: { inputs: parts, outputs: [whole] },
    }));
  },
  seeds: () => [],
  linear: (node) => [node.inputs.map((_, i) => i)],
  flops: noFlops,
};

const dataOnly = (node: Node, data: Shard) => node.inputs.map((_, i) => (i === 0 ? data : REPLICATE));

const splitRule: Rule = {
  cost: 'move',
  match(node, operand, shard, context) {
    if (!isStatic(node) || (operand.index > 0 && operand.side === 'inputs')) return ILLEGAL;
    const axis = normaliseAxis(intAttribute(node, 'axis', 0), shapeOf(node.inputs[0]).length);
    if (axis !== shard.axis)
      return { kind: 'row', row: { inputs: dataOnly(node, shard), outputs: node.outputs.map(() => shard) } };
    const extents = node.outputs.map((value) => shapeOf(value)[axis] ?? 0);
    const part = operand.side === 'outputs' ? operand.index : undefined;
    const values = { whole: node.inputs[0], parts: node.outputs };
    return matchParts(extents, part, shard, context, values, (whole, parts) =>
      hasSizes(node) || isEqualSplit(parts, context)
        ? { kind: 'row', row: { inputs: dataOnly(node, whole), outputs: parts } }
        : ILLEGAL,
    );
  },
  seeds: () => [],
  linear: firstInput,
  flops: noFlops,
  localise: localSplit,
};

const hasSizes = (node: Node): boolean => node.inputs[1] !== undefined || node.attributes.has('split');

/** Whether each rank's parts are those of a split in equal parts, of which the last may be smaller. */
const isEqualSplit = (parts: readonly Shard[], context: PlaceContext): boolean =>
  context.speeds.every((_, rank) => {
    const sizes = parts.map((part) => rankSize(part, rank));
    const total = sizes.reduce((sum, size) => sum + size, 0);
    const equal = Math.ceil(total / sizes.length);
    return sizes.every((size, i) => size === Math.min(equal, total - i * equal));
  });

/** Equal splits need no sizes; the others carry them as an attribute (before opset 13) or as a constant. */
function localSplit(node: Node, local: LocalShapes): LocalEdit {
  const axis = normaliseAxis(intAttribute(node, 'axis', 0), shapeOf(node.inputs[0]).length);
  const sizes = local.outputs.map((shape) => shape?.[axis] ?? 0);
  if (node.inputs[1]) return { constants: { 1: sizes } };
  return node.attributes.has('split') ? { ints: { split: sizes } } : {};
}

interface SliceAxis {
  readonly axis: number;
  readonly start: number;
  readonly end: number;
  readonly step: number;
}

/** Bounds counted from the front and clamped. A backward slice may end before the first element, which only a negative end says. */
const clampSlice = (start: number, end: number, step: number, size: number) => {
  const fromFront = (bound: number) => (bound < 0 ? bound + size : bound);
  const clamp = (bound: number, last: number) => Math.min(last, Math.max(0, fromFront(bound)));
  if (step > 0) return { start: clamp(start, size), end: clamp(end, size) };
  return { start: clamp(start, size - 1), end: fromFront(end) < 0 ? -size - 1 : clamp(end, size - 1) };
};

/** The slices of a `Slice` with constant bounds (opset 10 on), clamped; undefined where they are not constant. */
const readSlices = (node: Node): readonly SliceAxis[] | undefined => {
  const shape = shapeOf(node.inputs[0]);
  const [starts, ends] = [constantInts(node.inputs[1]), constantInts(node.inputs[2])];
  const axes = node.inputs[3] ? constantInts(node.inputs[3]) : starts?.map((_, i) => i);
  const steps = node.inputs[4] ? constantInts(node.inputs[4]) : starts?.map(() => 1);
  if (!starts || !ends || !axes || !steps) return undefined;
  return starts.map((start, i) => {
    const axis = normaliseAxis(axes[i] ?? 0, shape.length);
    const step = steps[i] ?? 1;
    return { axis, ...clampSlice(start, ends[i] ?? 0, step, shape[axis] ?? 0), step };
  });
};

const isWhole = (slice: SliceAxis, shape: readonly number[]) =>
  slice.step === 1 && slice.start === 0 && slice.end === shape[slice.axis];

/** Extents before, inside and after the slice; parts of size 0 are left out. */
const sliceParts = (slice: SliceAxis, size: number) => {
  const parts = [slice.start, slice.end - slice.start, size - slice.end];
  return { extents: parts.filter((extent) => extent > 0), inside: slice.start > 0 ? 1 : 0 };
};

const sliceRule: Rule = {
  cost: 'move',
  match(node, operand, shard, context) {
    const slices = isStatic(node) ? readSlices(node) : undefined;
    if (!slices || (operand.side === 'inputs' && operand.index > 0)) return ILLEGAL;
    const shape = shapeOf(node.inputs[0]);
    const slice = slices.find((candidate) => candidate.axis === shard.axis);
    if (!slice || isWhole(slice, shape))
      return { kind: 'row', row: { inputs: dataOnly(node, shard), outputs: [shard] } };
    if (slice.step !== 1 || slice.end <= slice.start) return ILLEGAL;
    const { extents, inside } = sliceParts(slice, shape[shard.axis] ?? 0);
    const part = operand.side === 'outputs' ? inside : undefined;
    const values = {
      whole: node.inputs[0],
      parts: extents.map((_, i) => (i === inside ? node.outputs[0] : undefined)),
    };
    return matchParts(extents, part, shard, context, values, (whole, parts) => {
      const output = parts[inside];
      return output ? { kind: 'row', row: { inputs: dataOnly(node, whole), outputs: [output] } } : ILLEGAL;
    });
  },
  seeds: () => [],
  linear: firstInput,
  flops: noFlops,
  localise: localSlice,
};

/** On the split axis the rank's part of what is sliced off lies behind its parts of the pieces before. */
function localSlice(node: Node, local: LocalShapes): LocalEdit {
  const slices = readSlices(node) ?? [];
  const [input] = local.row.inputs;
  const bounds = slices.map((slice) => {
    if (input?.kind !== 'shard' || input.axis !== slice.axis) return [slice.start, slice.end] as const;
    const start = rankSizeBefore(input, slice.start, local.rank);
    return [start, start + (local.outputs[0]?.[slice.axis] ?? 0)] as const;
  });
  return { constants: { 1: bounds.map(([start]) => start), 2: bounds.map(([, end]) => end) } };
}

/** Size of a rank's part of the pieces that lie before an offset of the whole axis. */
const rankSizeBefore = (shard: Shard, offset: number, rank: number): number => {
  const before: Piece[] = [];
  let base = 0;
  for (const piece of shard.pieces) {
    if (base + piece.extent <= offset) before.push(piece);
    base += piece.extent;
  }
  return rankSize({ ...shard, pieces: before }, rank);
};

export const PARTS = {
  Concat: concatRule,
  Split: splitRule,
  Slice: sliceRule,
} satisfies Table;
