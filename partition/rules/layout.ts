/** Operators that move elements without changing them: along axes, and by parts of an axis. */
import {
  constantFloats,
  constantInts,
  intAttribute,
  intsAttribute,
  type Node,
  normaliseAxis,
  stringAttribute,
} from '../graph/graph.js';
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
import { type Factors, numbered, rule, type Signature } from './signature.js';

const noFlops = () => 0;
const firstInput = () => [[0]];

const transpose = (node: Node): Signature => {
  const factors = numbered('d', shapeOf(node.inputs[0]).length);
  const order = intsAttribute(node, 'perm') ?? factors.map((_, axis) => factors.length - 1 - axis);
  return { inputs: [factors], outputs: [order.map((axis) => factors[axis] ?? null)] };
};

/** The axes of the data that are left as they are pass; the others must be whole. */
const untouchedAxes = (node: Node, isUntouched: (axis: number, size: number) => boolean): Signature => {
  const factors: Factors = shapeOf(node.inputs[0]).map((size, axis) => (isUntouched(axis, size) ? `d${axis}` : null));
  return {
    inputs: [factors, ...node.inputs.slice(1).map((value) => shapeOf(value).map(() => null))],
    outputs: [factors],
  };
};

/** A repeat of 1 is the only one that keeps a size. */
const tile = (node: Node): Signature => {
  const output = shapeOf(node.outputs[0]);
  return untouchedAxes(node, (axis, size) => output[axis] === size);
};

/** Padding on one side and cropping on the other keeps a size too, so the pads must be known. */
const pad = (node: Node): Signature | undefined => {
  const rank = shapeOf(node.inputs[0]).length;
  const pads = node.inputs[1] ? constantInts(node.inputs[1]) : intsAttribute(node, 'pads');
  const named = node.inputs[3] ? constantInts(node.inputs[3]) : numbered('', rank).map(Number);
  if (!pads || !named) return undefined;
  const axes = named.map((axis) => normaliseAxis(axis, rank));
  return untouchedAxes(node, (axis) => {
    const at = axes.indexOf(axis);
    return at < 0 || (pads[at] === 0 && pads[at + axes.length] === 0);
  });
};

/** Axes that Resize names, or all. */
const resizedAxes = (node: Node): readonly number[] => {
  const rank = shapeOf(node.inputs[0]).length;
  const axes = intsAttribute(node, 'axes');
  return axes?.length ? axes.map((axis) => normaliseAxis(axis, rank)) : numbered('', rank).map(Number);
};

/** A scale near 1 may keep a size and yet move elements, so scales must be known to be 1. */
const resize = (node: Node): Signature | undefined => {
  const isCropped = stringAttribute(node, 'coordinate_transformation_mode', '') === 'tf_crop_and_resize';
  const isStretched = stringAttribute(node, 'keep_aspect_ratio_policy', 'stretch') === 'stretch';
  if (isCropped || !isStretched) return undefined;
  const output = shapeOf(node.outputs[0]);
  if (constantInts(node.inputs[3])?.length) return untouchedAxes(node, (axis, size) => output[axis] === size);
  return byScales(node, constantFloats(node.inputs[node.inputs.length > 2 ? 2 : 1]));
};

const byScales = (node: Node, scales: readonly number[] | undefined): Signature | undefined => {
  const axes = resizedAxes(node);
  return scales && untouchedAxes(node, (axis) => (scales[axes.indexOf(axis)] ?? 1) === 1);
};

const upsample = (node: Node): Signature | undefined =>
  byScales(node, node.inputs[1] ? constantFloats(node.inputs[1]) : node.attributes.get('scales')?.floats);

/** Aligned at the last axis: new leading axes and broadcast ones are whole. */
const expand = (node: Node): Signature => {
  const [input, output] = [shapeOf(node.inputs[0]), shapeOf(node.outputs[0])];
  const shift = output.length - input.length;
  const factors = output.map((size, axis) => (input[axis - shift] === size ? `d${axis}` : null));
  return { inputs: [factors.slice(shift), [null]], outputs: [factors] };
};

/** `data[..., index, ...]`: axes of the data other than the gathered one, and those of the indices. */
const gather = (node: Node): Signature => {
  const [data, indices] = [shapeOf(node.inputs[0]), shapeOf(node.inputs[1])];
  const axis = normaliseAxis(intAttribute(node, 'axis', 0), data.length);
  const dataFactors = data.map((_, i) => (i === axis ? null : `d${i}`));
  const indexFactors = numbered('i', indices.length);
  return {
    inputs: [dataFactors, indexFactors],
    outputs: [[...dataFactors.slice(0, axis), ...indexFactors, ...dataFactors.slice(axis + 1)]],
  };
};

/** Shards of the parts of an axis that lie one after another, from the shard of one of them. */
const fillParts = (
  extents: readonly number[],
  known: number,
  shard: Shard,
  context: PlaceContext,
): readonly Shard[] | undefined => {
  const shards = extents.map((extent, i) => (i === known ? shard : fillLike(extent, shard, context)));
  return shards.every((part) => part !== undefined) ? shards : undefined;
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
  return pieces.every((piece) => piece !== undefined) ? { kind: 'wants', shard: { ...shard, pieces } } : ILLEGAL;
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
  row: (whole: Shard, parts: readonly Shard[]) => Match,
): Match => {
  if (part === undefined) {
    const parts = cutAtSeams(extents, shard);
    return parts ? row(shard, parts) : wantSeams(extents, shard, context);
  }
  const parts = fillParts(extents, part, shard, context);
  return parts ? row(join(parts, shard.axis), parts) : ILLEGAL;
};

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
    return matchParts(extents, part, shard, context, (whole, parts) => ({
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
    return matchParts(extents, part, shard, context, (whole, parts) =>
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
    return matchParts(extents, part, shard, context, (whole, parts) => {
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

/** Sizes are given by the output's; scales of 1 stay as they are. */
const localResize = (node: Node, local: LocalShapes): LocalEdit =>
  constantInts(node.inputs[3])?.length
    ? { constants: { 3: resizedAxes(node).map((axis) => local.outputs[0]?.[axis] ?? 0) } }
    : {};

const localExpand = (_: Node, local: LocalShapes): LocalEdit => ({ constants: { 1: local.outputs[0] ?? [] } });

/** Interpolation between elements is linear; the cubic and nearest kinds are too. Only cropping adds a constant. */
const resizeLinear = (node: Node) => (node.attributes.has('extrapolation_value') ? [] : [[0]]);

export const LAYOUT = {
  Transpose: rule({ cost: 'move', signature: transpose, linear: firstInput, flops: noFlops }),
  Expand: rule({ cost: 'move', signature: expand, linear: firstInput, flops: noFlops, localise: localExpand }),
  Tile: rule({ cost: 'move', signature: tile, linear: firstInput, flops: noFlops }),
  Pad: rule({ cost: 'move', signature: pad, flops: noFlops }),
  Resize: rule({ cost: 'move', signature: resize, linear: resizeLinear, localise: localResize }),
  Upsample: rule({ cost: 'move', signature: upsample, linear: firstInput }),
  Gather: rule({ cost: 'move', signature: gather, linear: firstInput, flops: noFlops }),
  Concat: concatRule,
  Split: splitRule,
  Slice: sliceRule,
} satisfies Table;
