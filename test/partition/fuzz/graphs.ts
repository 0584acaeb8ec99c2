/**
 * Random small graphs of operators that have rules. A graph is a list of choices, each of an operator and of what it reads;
 * the numbers of a choice are taken modulo what there is, so that every list is a graph and fast-check can make it shorter.
 */
import fc from 'fast-check';
import { elementCount } from '#tandem/common/tensor.js';
import { intAttribute, intsAttribute } from '#tandem/partition/onnx/index.js';
import type { SmallModel, SmallNode } from '../small-model.js';

export interface Choice {
  readonly op: number;
  /** Which tensors it reads, counted back from the newest. */
  readonly a: number;
  readonly b: number;
  /** An axis, a width or a way of the operator. */
  readonly p: number;
}

interface Tensor {
  readonly name: string;
  readonly shape: readonly number[];
}

const MOST_ELEMENTS = 6000;
const WIDTHS = [24, 36, 48, 96] as const;
const UNARY = ['Relu', 'Sigmoid', 'Tanh', 'Neg', 'Abs', 'Softplus', 'Identity', 'Erf'] as const;

/** A graph under construction. */
class Draft {
  readonly tensors: Tensor[] = [{ name: 'x', shape: [2, 6, 24] }];
  readonly nodes: SmallNode[] = [];
  readonly weights: Record<string, readonly number[]> = {};
  readonly ints: Record<string, readonly number[]> = {};

  pick(back: number): Tensor {
    return this.tensors[this.tensors.length - 1 - (back % this.tensors.length)] ?? { name: 'x', shape: [2, 6, 24] };
  }

  weight(shape: readonly number[]): string {
    const name = `w${Object.keys(this.weights).length}`;
    this.weights[name] = shape;
    return name;
  }

  int(values: readonly number[]): string {
    const name = `i${Object.keys(this.ints).length}`;
    this.ints[name] = values;
    return name;
  }

  add(
    op: string,
    inputs: readonly string[],
    shapes: readonly (readonly number[])[],
    attributes: SmallNode['attributes'] = [],
  ) {
    const outputs = shapes.map((shape, i) => ({ name: `t${this.nodes.length}.${i}`, shape }));
    this.nodes.push({ op, inputs, outputs: outputs.map(({ name }) => name), attributes });
    this.tensors.push(...outputs);
    return outputs;
  }
}

const at = <T>(list: readonly T[], index: number, otherwise: T): T =>
  list[index % Math.max(1, list.length)] ?? otherwise;
const withAxis = (shape: readonly number[], axis: number, size: number) =>
  shape.map((old, i) => (i === axis ? size : old));

type Step = (draft: Draft, read: Tensor, choice: Choice) => void;

/** Each does nothing where it does not fit. */
const STEPS: readonly Step[] = [
  function product(draft, { name, shape }, { p }) {
    const [k, n] = [shape.at(-1), at(WIDTHS, p, 24)];
    if (!k || elementCount(shape.slice(0, -1)) * n > MOST_ELEMENTS) return;
    draft.add('MatMul', [name, draft.weight([k, n])], [[...shape.slice(0, -1), n]]);
  },
  function bias(draft, { name, shape }, { p }) {
    const size = shape.at(-1);
    if (size) draft.add(p % 2 === 0 ? 'Add' : 'Mul', [name, draft.weight([size])], [shape]);
  },
  function unary(draft, { name, shape }, { p }) {
    draft.add(at(UNARY, p, 'Relu'), [name], [shape]);
  },
  function binary(draft, { name, shape }, { b, p }) {
    const alike = draft.tensors.filter((other) => other.shape.join() === shape.join());
    draft.add(p % 2 === 0 ? 'Add' : 'Mul', [name, at(alike.toReversed(), b, { name, shape }).name], [shape]);
  },
  function transpose(draft, { name, shape }, { p }) {
    const by = p % Math.max(1, shape.length);
    const perm = shape.map((_, i) => (i + by) % shape.length);
    draft.add('Transpose', [name], [perm.map((axis) => shape[axis] ?? 1)], [intsAttribute('perm', perm)]);
  },
  function divideAxis(draft, { name, shape }, { p }) {
    const size = shape.at(-1) ?? 1;
    const parts = [2, 3, 4, 6].filter((count) => size % count === 0);
    if (shape.length > 4 || parts.length === 0) return;
    const count = at(parts, p, 1);
    const split = [...shape.slice(0, -1), count, size / count];
    draft.add('Reshape', [name, draft.int(split)], [split]);
  },
  function mergeAxes(draft, { name, shape }, { p }) {
    if (shape.length < 2) return;
    const axis = p % (shape.length - 1);
    const merged = [...shape.slice(0, axis), (shape[axis] ?? 1) * (shape[axis + 1] ?? 1), ...shape.slice(axis + 2)];
    draft.add('Reshape', [name, draft.int(merged)], [merged]);
  },
  function split(draft, { name, shape }, { p }) {
    const axis = p % shape.length;
    const size = shape[axis] ?? 1;
    if (size < 4) return;
    const first = p % 3 === 0 ? Math.floor(size / 3) : Math.floor(size / 2);
    const sizes = [first, size - first];
    const shapes = sizes.map((part) => withAxis(shape, axis, part));
    draft.add('Split', [name, draft.int(sizes)], shapes, [intAttribute('axis', axis)]);
  },
  function slice(draft, { name, shape }, { p }) {
    const axis = p % shape.length;
    const size = shape[axis] ?? 1;
    if (size < 3) return;
    const bounds = [[1], [size - (p % 2)], [axis]].map((one) => draft.int(one));
    draft.add('Slice', [name, ...bounds], [withAxis(shape, axis, size - (p % 2) - 1)]);
  },
  function concat(draft, { name, shape }, { b, p }) {
    const axis = p % shape.length;
    const fits = draft.tensors.filter(
      (other) => withAxis(other.shape, axis, 0).join() === withAxis(shape, axis, 0).join(),
    );
    const other = at(fits.toReversed(), b, { name, shape });
    const whole = withAxis(shape, axis, (shape[axis] ?? 0) + (other.shape[axis] ?? 0));
    if (elementCount(whole) > MOST_ELEMENTS) return;
    draft.add('Concat', [name, other.name], [whole], [intAttribute('axis', axis)]);
  },
  function softmax(draft, { name, shape }, { p }) {
    draft.add('Softmax', [name], [shape], [intAttribute('axis', p % shape.length)]);
  },
  function reduce(draft, { name, shape }, { p }) {
    const axis = p % shape.length;
    const result = [withAxis(shape, axis, 1)];
    const axes = intsAttribute('axes', [axis]);
    if (p % 3 === 0) draft.add('ReduceSum', [name, draft.int([axis])], result);
    else draft.add(p % 3 === 1 ? 'ReduceMean' : 'ReduceMax', [name], result, [axes]);
  },
  function broadcast(draft, { name, shape }, { b, p }) {
    const fits = draft.tensors.filter(
      (other) => other.shape.length === shape.length && other.shape.every((size, i) => size === 1 || size === shape[i]),
    );
    draft.add(p % 2 === 0 ? 'Mul' : 'Add', [name, at(fits.toReversed(), b, { name, shape }).name], [shape]);
  },
  function norm(draft, { name, shape }) {
    const size = shape.at(-1) ?? 1;
    if (size < 4) return;
    const weights = [draft.weight([size]), draft.weight([size])];
    draft.add('LayerNormalization', [name, ...weights], [shape], [intAttribute('axis', -1)]);
  },
  function scores(draft, { name, shape }, { b }) {
    if (shape.length < 2) return;
    const alike = draft.tensors.filter((other) => other.shape.join() === shape.join());
    const other = at(alike.toReversed(), b, { name, shape });
    const [rows = 1, size = 1] = shape.slice(-2);
    const perm = shape.map((_, i) => (i < shape.length - 2 ? i : 2 * shape.length - 3 - i));
    if (elementCount(shape.slice(0, -2)) * rows * rows > MOST_ELEMENTS) return;
    const turned = draft.add(
      'Transpose',
      [other.name],
      [[...shape.slice(0, -2), size, rows]],
      [intsAttribute('perm', perm)],
    );
    const [keys] = turned;
    if (keys) draft.add('MatMul', [name, keys.name], [[...shape.slice(0, -2), rows, rows]]);
  },
  function gather(draft, { name, shape }, { p }) {
    const axis = p % shape.length;
    const size = shape[axis] ?? 1;
    const indices = [size - 1, 0, p % size];
    if ((elementCount(shape) / size) * 3 > MOST_ELEMENTS) return;
    draft.add('Gather', [name, draft.int(indices)], [withAxis(shape, axis, 3)], [intAttribute('axis', axis)]);
  },
  function write(draft, { name, shape }, { b }) {
    const [rows = 1, ...rest] = shape;
    const fits = draft.tensors.filter(
      (other) => other.shape.slice(1).join() === rest.join() && (other.shape[0] ?? 0) <= rows,
    );
    const updates = at(fits.toReversed(), b, { name, shape });
    const count = updates.shape[0] ?? 0;
    const flat = draft.int(Array.from({ length: count }, (_, i) => rows - count + i));
    const indices = draft.add('Unsqueeze', [flat, draft.int([1])], [[count, 1]]);
    draft.tensors.pop();
    draft.add('ScatterND', [name, indices[0]?.name ?? '', updates.name], [shape]);
  },
];

/** Each stretch of an axis several times, as key heads are for the query heads that read them. */
const repeat: Step = (draft, { name, shape }, { p }) => {
  const axis = p % shape.length;
  const [count, size] = [2 + (p % 2), shape[axis] ?? 1];
  if (shape.length > 4 || elementCount(shape) * count > MOST_ELEMENTS) return;
  const single = [...shape.slice(0, axis + 1), 1, ...shape.slice(axis + 1)];
  const many = withAxis(single, axis + 1, count);
  const repeated = withAxis(shape, axis, size * count);
  const [one] = draft.add('Unsqueeze', [name, draft.int([axis + 1])], [single]);
  const [all] = draft.add('Expand', [one?.name ?? '', draft.int(many)], [many]);
  draft.add('Reshape', [all?.name ?? '', draft.int(repeated)], [repeated]);
};

const ALL_STEPS: readonly Step[] = [...STEPS, repeat];

/** The graph that choices say: it gives out what nothing reads. */
export const toModel = (choices: readonly Choice[]): SmallModel => {
  const draft = new Draft();
  draft.add('MatMul', ['x', draft.weight([24, 48])], [[2, 6, 48]]);
  for (const choice of choices) at(ALL_STEPS, choice.op, repeat)(draft, draft.pick(choice.a), choice);
  if (draft.nodes.length === 0) draft.add('Identity', ['x'], [[2, 6, 24]]);
  const read = new Set(draft.nodes.flatMap(({ inputs }) => inputs));
  const outputs = draft.tensors.filter(({ name }) => name !== 'x' && !read.has(name)).map(({ name }) => name);
  return { inputs: { x: [2, 6, 24] }, weights: draft.weights, ints: draft.ints, nodes: draft.nodes, outputs };
};

export const choices: fc.Arbitrary<readonly Choice[]> = fc.array(
  fc.record({
    op: fc.nat({ max: ALL_STEPS.length - 1 }),
    a: fc.nat({ max: 3 }),
    b: fc.nat({ max: 7 }),
    p: fc.nat({ max: 11 }),
  }),
  { minLength: 2, maxLength: 14 },
);

export const speeds = fc.constantFrom([1, 1], [2, 1], [1, 1, 1]);
