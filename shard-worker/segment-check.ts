/** Proves that a graph which was opened is the segment that the manifest describes. */
import { TandemError } from '../common/errors.js';
import type { Session, TensorMetadata } from '../common/onnxruntime.js';
import type { OpenSpec } from '../common/tensor.js';
import type { SegmentEntry } from '../partition/write/manifest.js';

/** A size that one side leaves open is no difference. */
const shapesDiffer = (expected: readonly (number | null)[], found: TensorMetadata['shape']): boolean =>
  found.length !== expected.length ||
  found.some((size, axis) => typeof size === 'number' && expected[axis] !== null && size !== expected[axis]);

const differs = (expected: OpenSpec, found: TensorMetadata): boolean =>
  found.dtype !== expected.dtype || (expected.shape !== null && shapesDiffer(expected.shape, found.shape));

const outputProblem = (session: Session, expected: OpenSpec): string | undefined => {
  const found = session.outputs.find((output) => output.name === expected.name);
  if (found === undefined) return `output "${expected.name}" is missing`;
  if (!differs(expected, found)) return undefined;
  return `output "${expected.name}" is ${found.dtype} [${found.shape.join(', ')}], expected ${expected.dtype} ${expected.shape === null ? 'of any shape' : `[${expected.shape.map((size) => size ?? '?').join(', ')}]`}`;
};

/** @throws TandemError `SEGMENT_MISMATCH` with all that differs */
export const checkSession = (session: Session, entry: SegmentEntry): void => {
  const given = new Set(entry.inputs);
  const inputs = session.inputs
    .filter((input) => !given.has(input.name))
    .map((input) => `input "${input.name}" is not provided`);
  const problems = [...inputs, ...entry.outputs.flatMap((output) => outputProblem(session, output) ?? [])];
  if (problems.length === 0) return;
  throw new TandemError(
    'SEGMENT_MISMATCH',
    `Graph "${entry.file}" is not the one that the manifest describes: ${problems.join('; ')}.`,
  );
};
