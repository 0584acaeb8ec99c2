/** What shares a scale on an int8 wire: the last axes of a tensor, as few as make a row worth its scale. */
import { elementCount } from '../../common/tensor.js';

/** Values go from -127 to 127, so that the range is as wide on both sides of 0. */
export const LARGEST = 127;
/** A scale has four bytes, so a shorter row would not be a quarter of float32. */
const LEAST_ROW = 64;

/** Axes that a row goes along. */
export const rowAxes = (shape: readonly number[]): readonly number[] => {
  const axes = shape.map((_, axis) => axis);
  const enough = axes.findLast((axis) => elementCount(shape.slice(axis)) >= LEAST_ROW) ?? 0;
  return axes.slice(enough);
};

/** Of the scales; they are told apart along the same axes, so that both multiply as they are. */
export const rowShape = (shape: readonly number[]): readonly number[] => {
  const along = new Set(rowAxes(shape));
  return shape.map((size, axis) => (along.has(axis) ? 1 : size));
};

/** Bytes of a tensor on the wire. */
export const int8WireBytes = (shape: readonly number[]): number =>
  elementCount(shape) + 4 * elementCount(rowShape(shape));
