/** Symbolic dims: which a model has, and whether the caller fixed exactly those. */
import { TandemError } from '../../common/errors.js';
import type { TensorMetadata } from '../../common/onnxruntime.js';
import type { Dims } from '../../partition/index.js';
import { nearest } from '../config/nearest.js';

export type { Dims };

/** A symbolic dim's name with every place where the model's inputs have it. */
const symbolicDims = (inputs: readonly TensorMetadata[]): ReadonlyMap<string, readonly string[]> => {
  const places = new Map<string, readonly string[]>();
  for (const input of inputs) {
    for (const [axis, size] of input.shape.entries()) {
      if (typeof size === 'number' && size >= 0) continue;
      const name = typeof size === 'string' ? size : '';
      places.set(name, [...(places.get(name) ?? []), `${input.name}, axis ${axis}`]);
    }
  }
  return places;
};

const openDim = (name: string, places: readonly string[]): string =>
  name === ''
    ? `a dim without a name (${places.join('; ')}): export the model with a name for it, or with a fixed size`
    : `${name} (${places.join('; ')}): add --dim ${name}=SIZE`;

const unknownDim = (name: string, known: readonly string[]): string => {
  const meant = nearest(name, known);
  const hint = known.length === 0 ? 'the model has fixed sizes only' : `the model has ${known.join(', ')}`;
  return `${name}: no such dim; ${meant === undefined ? hint : `did you mean "${meant}"?`}`;
};

/**
 * Checks that exactly the model's symbolic dims are fixed.
 * @throws TandemError `DIMS_OPEN` with every dim that is left open, and every one that the model does not have
 */
export const requireDims = (inputs: readonly TensorMetadata[], dims: Dims): Dims => {
  const symbolic = symbolicDims(inputs);
  const open = [...symbolic].filter(([name]) => dims[name] === undefined);
  const unknown = Object.keys(dims).filter((name) => !symbolic.has(name));
  const problems = [
    ...open.map(([name, places]) => openDim(name, places)),
    ...unknown.map((name) => unknownDim(name, [...symbolic.keys()])),
  ];
  if (problems.length === 0) return dims;
  throw new TandemError('DIMS_OPEN', "Expected a size for each of the model's symbolic dims, and for no other:", {
    problems,
  });
};
