/**
 * Divides segments with many weights into several, so that optimising one takes little memory: optimising a graph takes a few
 * times the memory of its weights, and a model on a single rank would be one segment. A further segment costs a fraction
 * of a millisecond a step.
 *
 * All ranks' programs keep the same number of segments, since an exchange is known by its segment's number. A tensor is
 * sent after the piece that makes it.
 */

import { type Graph, type Node, sliceOf, type Value } from '../graph/graph.js';
import { sections } from '../graph/sections.js';
import { sliceLayout } from '../graph/slice.js';
import { type Program, type Received, type Segment, weightBytes } from './rank-program.js';

/** Bytes of weights beyond which a segment is divided: optimising one took three times as much memory. */
export const SEGMENT_WEIGHTS_LIMIT = 128 * 1024 * 1024;

/**
 * Requires as many segments of each rank; ensures the same.
 * @param programs of all ranks
 * @param limit bytes of weights that a segment may have, unless one node has more
 */
export const divideLargeSegments = (
  programs: readonly Program[],
  limit = SEGMENT_WEIGHTS_LIMIT,
): readonly Program[] => {
  const stages = (programs[0]?.segments ?? []).map((_, index) =>
    divideStage(
      programs.flatMap(({ segments }) => segments[index] ?? []),
      limit,
    ),
  );
  return programs.map((program, rank) => ({ ...program, segments: stages.flatMap((ranks) => ranks[rank] ?? []) }));
};

/** One segment of every rank, in pieces. */
const divideStage = (segments: readonly Segment[], limit: number): readonly (readonly Segment[])[] => {
  const bytes = segments.map((segment) => weightBytes({ segments: [segment] }));
  const wanted = Math.max(...bytes.map((size) => Math.ceil(size / limit)));
  const count = Math.min(wanted, ...segments.map(({ graph }) => graph.nodes.length));
  if (count <= 1) return segments.map((segment) => [segment]);
  const pieces = segments.map(({ graph }, rank) => sections(graph, runsOf(graph.nodes, count, bytes[rank] ?? 0)));
  const madeIn = pieces.map(findMakers);
  return segments.map((segment, rank) =>
    (pieces[rank] ?? []).map((graph, index) => ({
      ...segment,
      graph,
      sends: segment.sends.filter(({ value }) => madeIn[rank]?.get(value) === index),
      receives: segment.receives.filter((received) => sentAfter(received, rank, segments, madeIn) === index),
    })),
  );
};

const findMakers = (pieces: readonly Graph[]): ReadonlyMap<Value, number> =>
  new Map(
    pieces.flatMap(({ nodes }, index) =>
      nodes.flatMap(({ outputs }) => outputs.flatMap((value) => (value ? [[value, index] as const] : []))),
    ),
  );

/** The piece after which a rank sends what `to` receives. */
const sentAfter = (
  { of, from }: Received,
  to: number,
  segments: readonly Segment[],
  madeIn: readonly ReadonlyMap<Value, number>[],
): number => {
  const sent = segments[from]?.sends.find((one) => one.of === of && one.to.includes(to));
  return (sent && madeIn[from]?.get(sent.value)) ?? 0;
};

/** Runs of nodes with about the same weights each, none of them empty. */
const runsOf = (nodes: readonly Node[], count: number, total: number): readonly (readonly Node[])[] => {
  const read = new Set<Value>();
  const runs: Node[][] = [[]];
  let weight = 0;
  for (const [index, node] of nodes.entries()) {
    const isFull = weight >= (runs.length / count) * total || nodes.length - index === count - runs.length;
    if (runs.length < count && runs.at(-1)?.length !== 0 && isFull) runs.push([]);
    runs.at(-1)?.push(node);
    for (const value of node.inputs) {
      const slice = value && !read.has(value) ? sliceOf(value) : undefined;
      if (value) read.add(value);
      weight += slice ? sliceLayout(slice).bytes : 0;
    }
  }
  return runs;
};
