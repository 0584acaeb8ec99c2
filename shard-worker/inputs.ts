/** Compares tensors with what a model wants; used on both sides of the wire. */
import { byteLength, type HostTensor, type TensorSpec } from '../common/tensor.js';

const describe = (tensor: { readonly dtype: string; readonly shape: readonly number[] }): string =>
  `${tensor.dtype} [${tensor.shape.join(', ')}]`;

const tensorProblem = (spec: TensorSpec, tensor: HostTensor | undefined): string | undefined => {
  if (tensor === undefined) return `"${spec.name}" (${describe(spec)}) is missing`;
  if (describe(tensor) !== describe(spec)) return `"${spec.name}" is ${describe(tensor)}, expected ${describe(spec)}`;
  if (tensor.data.byteLength === byteLength(spec)) return undefined;
  return `"${spec.name}" has ${tensor.data.byteLength} bytes, expected ${byteLength(spec)}`;
};

/** All the ways in which `tensors` are not what `specs` ask for; empty if they fit. */
export const tensorProblems = (
  specs: readonly TensorSpec[],
  tensors: Readonly<Record<string, HostTensor>>,
): string[] => {
  const names = new Set(specs.map((spec) => spec.name));
  const unknown = Object.keys(tensors).filter((name) => !names.has(name));
  return [
    ...specs.flatMap((spec) => tensorProblem(spec, tensors[spec.name]) ?? []),
    ...unknown.map((name) => `"${name}" is not an input of the model`),
  ];
};
