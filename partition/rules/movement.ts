/** Operators that move elements without changing them: along axes. */
import {
  constantFloats,
  constantInts,
  intAttribute,
  intsAttribute,
  type Node,
  normaliseAxis,
  stringAttribute,
} from '../graph/graph.js';
import type { Table } from './registry.js';
import { type LocalEdit, type LocalShapes, shapeOf } from './rule.js';
import { type Factors, numbered, rule, type Signature } from './signature.js';
import { byRepeatedRows } from './window.js';

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

/** What is cut off lies in the last two axes. */
const trilu = (node: Node): Signature => {
  const rank = shapeOf(node.inputs[0]).length;
  return untouchedAxes(node, (axis) => axis < rank - 2);
};

/**
 * Squares of `blocksize` channels become space. With mode CRD, which is PyTorch's pixel shuffle, the channels of a square stand
 * together, so whole squares can be split; with DCR they stand apart, and only the batch and space can.
 */
const depthToSpace = (node: Node): Signature => {
  const factors = ['n', stringAttribute(node, 'mode', 'DCR') === 'CRD' ? 'c' : null, 'h', 'w'];
  const [, , h = 1, w = 1] = shapeOf(node.inputs[0]);
  return { inputs: [factors], outputs: [factors], units: { c: shapeOf(node.outputs[0])[1] ?? 1, h, w } };
};

/** The channels of a square stand apart. */
const spaceToDepth = (node: Node): Signature => {
  const factors = ['n', null, 'h', 'w'];
  const [, , h = 1, w = 1] = shapeOf(node.outputs[0]);
  return { inputs: [factors], outputs: [factors], units: { h, w } };
};

/** Each channel is looked up at the same places, and each place in the whole picture. */
const gridSample = (node: Node): Signature => {
  const places = numbered('p', shapeOf(node.inputs[0]).length - 2);
  return {
    inputs: [
      ['n', 'c', ...places.map(() => null)],
      ['n', ...places, null],
    ],
    outputs: [['n', 'c', ...places]],
  };
};

/** Sizes are given by the output's; scales of 1 stay as they are. */
const localResize = (node: Node, local: LocalShapes): LocalEdit =>
  constantInts(node.inputs[3])?.length
    ? { constants: { 3: resizedAxes(node).map((axis) => local.outputs[0]?.[axis] ?? 0) } }
    : {};

const localExpand = (_: Node, local: LocalShapes): LocalEdit => ({ constants: { 1: local.outputs[0] ?? [] } });

/** Interpolation between elements is linear; the cubic and nearest kinds are too. Only cropping adds a constant. */
const resizeLinear = (node: Node) => (node.attributes.has('extrapolation_value') ? [] : [[0]]);

export const MOVEMENT = {
  Transpose: rule({ cost: 'move', signature: transpose, linear: firstInput, flops: noFlops }),
  Expand: rule({ cost: 'move', signature: expand, linear: firstInput, flops: noFlops, localise: localExpand }),
  Tile: rule({ cost: 'move', signature: tile, linear: firstInput, flops: noFlops }),
  Pad: rule({ cost: 'move', signature: pad, flops: noFlops }),
  Resize: byRepeatedRows(rule({ cost: 'move', signature: resize, linear: resizeLinear, localise: localResize })),
  Upsample: rule({ cost: 'move', signature: upsample, linear: firstInput }),
  Trilu: rule({ cost: 'move', signature: trilu, linear: firstInput }),
  DepthToSpace: rule({ cost: 'move', signature: depthToSpace, linear: firstInput, flops: noFlops }),
  SpaceToDepth: rule({ cost: 'move', signature: spaceToDepth, linear: firstInput, flops: noFlops }),
  GridSample: rule({ cost: 'move', signature: gridSample, linear: firstInput }),
  Gather: rule({ cost: 'move', signature: gather, linear: firstInput, flops: noFlops }),
} satisfies Table;
