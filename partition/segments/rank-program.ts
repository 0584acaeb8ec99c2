/**
 * A rank's program: a chain of graphs, and what it sends and receives after each. All graphs of a rank share their values, so
 * nothing has a name that matters until `name-values.ts` gives one.
 *
 * A pass over segments is a function from graph to graph. It may rely on what `findBroken` (`graph/sections.ts`) checks, and
 * on the graph's outputs being all that leaves it; it keeps its inputs and its outputs, the very values, as they were.
 */
import { byteLength } from '../../common/tensor.js';
import { constantsOf, type Graph, sliceOf, type Value } from '../graph/graph.js';
import { sliceLayout } from '../graph/slice.js';

/** A conversion of a tensor, by which what one rank sends and another receives know each other. */
export type Exchange = object;

export interface Sent {
  readonly of: Exchange;
  readonly value: Value;
  readonly to: readonly number[];
}

export interface Received {
  readonly of: Exchange;
  /** As the receiving rank has it. */
  readonly value: Value;
  readonly from: number;
}

export interface Segment {
  readonly graph: Graph;
  readonly sends: readonly Sent[];
  readonly receives: readonly Received[];
  /** Bytes that values have once ONNX Runtime has computed what depends on constants alone, where that is not what they have now. */
  readonly folded: ReadonlyMap<Value, number>;
}

export interface Program {
  /** The model's, whose names stay; every rank is fed all of them. */
  readonly inputs: readonly Value[];
  readonly outputs: readonly Value[];
  readonly segments: readonly Segment[];
  /** What the rank has whole after a collective: the model's name for each. */
  readonly whole: ReadonlyMap<Value, string>;
}

/** The program with each segment's graph changed by a pass. */
export const withGraphs = (program: Program, pass: (graph: Graph) => Graph): Program => ({
  ...program,
  segments: program.segments.map((segment) => ({ ...segment, graph: pass(segment.graph) })),
});

/** Bytes that a value takes while it is there; 0 for one of open size. */
const bytesOf = (value: Value, { folded }: Segment): number => {
  const { dtype, shape, constant } = value;
  return folded.get(value) ?? (shape && !constant ? byteLength({ dtype, shape }) : 0);
};

/** Bytes of weights in a program, each counted once, as they are written. */
export const weightBytes = ({ segments }: Pick<Program, 'segments'>): number => {
  const bytes = new Map(
    segments.flatMap((segment) =>
      [...constantsOf(segment.graph)].map((value) => [value, constantBytes(value, segment)]),
    ),
  );
  return [...bytes.values()].reduce((sum, size) => sum + size, 0);
};

const constantBytes = (value: Value, { folded }: Segment): number => {
  const slice = sliceOf(value);
  return folded.get(value) ?? (slice ? sliceLayout(slice).bytes : 0);
};

/** Bytes that a program sends in a step. */
export const sentBytes = ({ segments }: Program): number =>
  segments
    .flatMap((segment) => segment.sends.map(({ value, to }) => to.length * bytesOf(value, segment)))
    .reduce((sum, size) => sum + size, 0);

/** The last segment that reads each value of another. */
const lastReads = ({ segments }: Program): ReadonlyMap<Value, number> =>
  new Map(segments.flatMap(({ graph }, index) => graph.inputs.map((value) => [value, index] as const)));

/** For each segment, what nothing reads once it has run and its sends are done. */
export const findReleases = (program: Program): readonly (readonly Value[])[] => {
  const last = lastReads(program);
  const finals = new Set(program.outputs);
  return program.segments.map(({ graph }, index) =>
    [...new Set([...graph.inputs, ...graph.outputs])].filter(
      (value) => !finals.has(value) && (last.get(value) ?? -1) <= index,
    ),
  );
};

/** Bytes of activations that live at the same time, at the most, those that wait between segments included. */
export const peakBytes = (program: Program): number => {
  const last = lastReads(program);
  const lastRead = (value: Value) => last.get(value) ?? -1;
  let waiting: readonly Value[] = [];
  let peak = 0;
  program.segments.forEach((segment, index) => {
    peak = Math.max(
      peak,
      peakOf(segment, waiting, (value) => lastRead(value) > index),
    );
    waiting = [...waiting, ...segment.graph.outputs].filter((value) => lastRead(value) > index);
  });
  return peak;
};

/** @param stays whether a value is needed after the segment */
const peakOf = (segment: Segment, held: readonly Value[], stays: (value: Value) => boolean): number => {
  const { nodes } = segment.graph;
  const touched = nodes.map(({ inputs, outputs }) => new Set([...inputs, ...outputs]));
  const lastTouch = new Map(touched.flatMap((values, index) => [...values].map((value) => [value, index] as const)));
  const sum = (values: Iterable<Value | undefined>) =>
    [...values].reduce((bytes, value) => bytes + (value ? bytesOf(value, segment) : 0), 0);
  let live = sum(held);
  let peak = live;
  nodes.forEach(({ outputs }, index) => {
    live += sum(outputs);
    peak = Math.max(peak, live);
    live -= sum(
      [...(touched[index] ?? [])].filter((value) => value && lastTouch.get(value) === index && !stays(value)),
    );
  });
  return peak;
};
