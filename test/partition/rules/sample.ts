/**
 * Samples: one-node models that a rule is tried on. A sample is data; what it is tried with is in `rows.ts` and
 * `missing.ts`, and how it is run in `run.ts`.
 */

import { fromNumbers } from '#tandem/common/elements.js';
import { type DType, elementCount, type HostTensor } from '#tandem/common/tensor.js';
import { createRandomStream } from '#tandem/coordinator/pipeline/random.js';
import {
  type AttributeProto,
  floatAttribute,
  intAttribute,
  intsAttribute,
  stringAttribute,
} from '#tandem/partition/onnx/index.js';

/** An input of a sample: data, or an integer constant that the rule may read (axes, sizes, bounds). */
export interface SampleInput {
  readonly tensor: HostTensor;
  readonly isConstant: boolean;
}

export interface Sample {
  /** Key of the operator in the registry. */
  readonly op: string;
  /** What is special about it; empty for the plain case. */
  readonly variant: string;
  readonly opset: number;
  /** Undefined where an optional input is left out. */
  readonly inputs: readonly (SampleInput | undefined)[];
  readonly attributes: readonly AttributeProto[];
  /** Whether each output is asked for. */
  readonly outputs: readonly boolean[];
}

type AttributeValue = number | string | readonly number[] | { readonly float: number };

export interface SampleOptions {
  readonly variant?: string;
  readonly opset?: number;
  readonly attributes?: Readonly<Record<string, AttributeValue>>;
  /** Number of outputs, or which of them are asked for; 1 where absent. */
  readonly outputs?: number | readonly boolean[];
}

const toAttribute = (name: string, value: AttributeValue): AttributeProto => {
  if (typeof value === 'number') return intAttribute(name, value);
  if (typeof value === 'string') return stringAttribute(name, value);
  return 'float' in value ? floatAttribute(name, value.float) : intsAttribute(name, value);
};

const toOutputs = (outputs: number | readonly boolean[]): readonly boolean[] =>
  typeof outputs === 'number' ? Array.from({ length: outputs }, () => true) : outputs;

/** A sample of an operator. */
export const sample = (
  op: string,
  inputs: readonly (SampleInput | undefined)[],
  { variant = '', opset = 17, attributes = {}, outputs = 1 }: SampleOptions = {},
): Sample => ({
  op,
  variant,
  opset,
  inputs,
  attributes: Object.entries(attributes).map(([name, value]) => toAttribute(name, value)),
  outputs: toOutputs(outputs),
});

export const describeSample = ({ op, variant }: Sample): string => (variant === '' ? op : `${op}, ${variant}`);

let seed = 0;

/** Standard normal values, others in each call; rounded where the type is a whole number, their sign where it is a bool. */
export const normal = (shape: readonly number[], dtype: DType = 'float32'): SampleInput =>
  mapped(shape, dtype, (value) => (dtype === 'bool' ? Number(value > 0) : value));

/** Values from 0.1 up. */
export const positive = (shape: readonly number[], dtype: DType = 'float32'): SampleInput =>
  mapped(shape, dtype, (value) => Math.abs(value) + 0.1);

/** Whole numbers from 0 to `limit - 1`. */
export const below = (limit: number, shape: readonly number[], dtype: DType = 'int64'): SampleInput =>
  mapped(shape, dtype, (value) => Math.floor(Math.abs(value) * 1000) % limit);

/** Normal values of which some are infinite or not a number. */
export const strange = (shape: readonly number[]): SampleInput =>
  mapped(shape, 'float32', (value) => (value > 0.8 ? Number.POSITIVE_INFINITY : value < -0.8 ? Number.NaN : value));

const mapped = (shape: readonly number[], dtype: DType, map: (value: number) => number): SampleInput => {
  seed += 1;
  const values = Array.from(createRandomStream(seed).normal(elementCount(shape)), map);
  return { tensor: fromNumbers({ dtype, shape }, values), isConstant: false };
};

/** A constant list of whole numbers. */
export const ints = (values: readonly number[], shape: readonly number[] = [values.length]): SampleInput => ({
  tensor: fromNumbers({ dtype: 'int64', shape }, values),
  isConstant: true,
});

/** Numbers at run time: a scalar bound, a list of scales. */
export const numbers = (
  values: readonly number[],
  shape: readonly number[],
  dtype: DType = 'float32',
): SampleInput => ({
  tensor: fromNumbers({ dtype, shape }, values),
  isConstant: false,
});
