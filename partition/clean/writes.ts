/**
 * Writes by constant index, `ScatterND` and `ScatterElements`, as what they are: the data's parts before and behind what is
 * written, and what is written between them. PyTorch's exporters write `out[..., 0::2] = x` so, in rotary embeddings above
 * all; as Slice and Concat a split of heads or tokens passes through, and what is overwritten wholly is no longer read.
 */
import { elementCount } from '../../common/tensor.js';
import {
  constantInts,
  type Graph,
  intAttribute,
  type Node,
  normaliseAxis,
  stringAttribute,
  type Value,
} from '../graph/graph.js';
import { makeNode } from '../graph/tape.js';
import { Moves } from './moves.js';

/** Places of an axis that are written: `start`, `start + step`, ... */
interface Range {
  readonly start: number;
  readonly step: number;
  readonly count: number;
}

/** One range per axis of the data. */
type Box = readonly Range[];

/** The range that numbers in order say; undefined where they are not evenly spaced, or go backwards. */
const toRange = (places: readonly number[]): Range | undefined => {
  const [start = 0, second = start + 1] = places;
  const step = second - start;
  const isEven = step > 0 && places.every((place, i) => place === start + i * step);
  return isEven ? { start, step, count: places.length } : undefined;
};

/** The box that index tuples name in row-major order; undefined where they name another set. */
const toBox = (tuples: readonly (readonly number[])[], axes: number): Box | undefined => {
  const ranges: Range[] = [];
  for (let axis = 0; axis < axes; axis++) {
    const range = toRange([...new Set(tuples.map((tuple) => tuple[axis] ?? 0))]);
    if (!range) return undefined;
    ranges.push(range);
  }
  if (elementCount(ranges.map(({ count }) => count)) !== tuples.length) return undefined;
  const inner = ranges.map((_, axis) => elementCount(ranges.slice(axis + 1).map(({ count }) => count)));
  const isInOrder = tuples.every((tuple, i) =>
    ranges.every(
      ({ start, step, count }, axis) => tuple[axis] === start + step * (Math.floor(i / (inner[axis] ?? 1)) % count),
    ),
  );
  return isInOrder ? ranges : undefined;
};

const whole = (shape: readonly number[]): Box => shape.map((count) => ({ start: 0, step: 1, count }));

const chunk = (values: readonly number[], size: number): readonly (readonly number[])[] =>
  Array.from({ length: values.length / Math.max(1, size) }, (_, i) => values.slice(i * size, (i + 1) * size));

/** `data[indices[i]] = updates[i]`: the indices' last axis holds tuples for the data's first axes. */
const scatterNdBox = (shape: readonly number[], indices: Value): Box | undefined => {
  const width = indices.shape?.at(-1) ?? 0;
  const flat = constantInts(indices);
  if (!flat || width === 0) return undefined;
  const tuples = chunk(
    flat.map((index, i) => normaliseAxis(index, shape[i % width] ?? 0)),
    width,
  );
  const box = toBox(tuples, width);
  return box && [...box, ...whole(shape.slice(width))];
};

/** `data[i][indices[i][j]][k] = updates[i][j][k]` for axis 1, where the index depends on nothing but `j`. */
const scatterElementsBox = (node: Node, shape: readonly number[], indices: Value): Box | undefined => {
  const axis = normaliseAxis(intAttribute(node, 'axis', 0), shape.length);
  const extents = indices.shape ?? [];
  const [count = 0, inner] = [extents[axis], elementCount(extents.slice(axis + 1))];
  const flat = constantInts(indices)?.map((index) => normaliseAxis(index, shape[axis] ?? 0));
  const places = Array.from({ length: count }, (_, j) => flat?.[j * inner] ?? 0);
  if (!flat?.every((index, i) => index === places[Math.floor(i / inner) % count])) return undefined;
  const range = toRange(places);
  return range && whole(extents).map((each, i) => (i === axis ? range : each));
};

const findBox = (node: Node): Box | undefined => {
  const [data, indices] = node.inputs;
  if (node.domain !== '' || !data?.shape || !indices?.shape) return undefined;
  if (stringAttribute(node, 'reduction', 'none') !== 'none' || elementCount(indices.shape) === 0) return undefined;
  if (node.op === 'ScatterND') return scatterNdBox(data.shape, indices);
  return node.op === 'ScatterElements' ? scatterElementsBox(node, data.shape, indices) : undefined;
};

const isPart = ({ start, count }: Range, size: number): boolean => start !== 0 || count !== size;

/** Whether a range with steps takes one of each run of `step`, as `0::2` does. */
const isRegular = ({ start, step, count }: Range, size: number): boolean =>
  step === 1 || count === 1 || (start < step && count * step === size);

const insert = <T>(list: readonly T[], at: number, ...items: readonly T[]): readonly T[] => [
  ...list.slice(0, at),
  ...items,
  ...list.slice(at + 1),
];

/** The data with `updates`, whose shape is the box's, in their place. */
const write = (moves: Moves, prefix: string, data: Value, box: Box, updates: Value): Value => {
  const shape = data.shape ?? [];
  const axis = box.findIndex((range, i) => isPart(range, shape[i] ?? 0));
  const range = box[axis];
  if (!range) return updates;
  const size = shape[axis] ?? 0;
  if (range.step > 1 && range.count > 1) {
    // An axis of its own for the places in a run, of which one is written.
    const runs = insert(shape, axis, range.count, range.step);
    const inner = insert(
      box,
      axis,
      { start: 0, step: 1, count: range.count },
      { start: range.start, step: 1, count: 1 },
    );
    const written = moves.reshape(
      prefix,
      updates,
      inner.map(({ count }) => count),
    );
    return moves.reshape(prefix, write(moves, prefix, moves.reshape(prefix, data, runs), inner, written), shape);
  }
  const end = range.start + range.count;
  const rest = box.map((each, i) => (i === axis ? { start: 0, step: 1, count: each.count } : each));
  const middle = moves
    .slice(prefix, data, axis, range.start, end)
    .map((part) => write(moves, prefix, part, rest, updates));
  return moves.concat(prefix, axis, [
    ...moves.slice(prefix, data, axis, 0, range.start),
    ...middle,
    ...moves.slice(prefix, data, axis, end, size),
  ]);
};

/** The same graph without writes by constant index, but for those to places that no slice reaches. */
export const unrollWrites = (graph: Graph): Graph => {
  const moves = new Moves();
  const replaced = new Map<Value, Value>();
  const kept = new Set(graph.outputs);
  const current = (value: Value | undefined) => (value ? (replaced.get(value) ?? value) : value);
  const nodes = graph.nodes.flatMap((original) => {
    const node = { ...original, inputs: original.inputs.map(current) };
    const box = findBox(node);
    const [data, , updates] = node.inputs;
    const [output] = node.outputs;
    if (!box || !data || !updates || !output || !box.every((range, i) => isRegular(range, data.shape?.[i] ?? 0)))
      return [node];
    const written = moves.reshape(
      node.name,
      updates,
      box.map(({ count }) => count),
    );
    const result = write(moves, node.name, data, box, written);
    if (kept.has(output)) return [...moves.tape.take(), makeNode('Identity', node.name, [result], output)];
    replaced.set(output, result);
    return moves.tape.take();
  });
  return { ...graph, nodes };
};
