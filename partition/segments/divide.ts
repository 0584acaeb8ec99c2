/**
 * Divides segments with many weights into several, so that optimising one takes little memory: optimising a graph takes a few
 * times the memory of its weights, and a model on a single rank would be one segment. A further segment costs a fraction
 * of a millisecond a step.
 *
 * All ranks' programs keep the same number of segments, since an exchange is known by its segment's number. A tensor is
 * sent after the piece that makes it.
 */

import { TandemError } from '../../common/errors.js';
import { DTYPES, type OpenSpec } from '../../common/tensor.js';
import { sliceLayout, type WeightSlice } from '../graph/slice.js';
import { createGraph, createModel, createValueInfo, type ModelProto, type NodeProto } from '../onnx/index.js';
import { nodeReads } from '../onnx/reads.js';
import type { Receive, Send } from '../write/manifest.js';
import type { EmittedSegment } from './emit.js';

/** Bytes of weights beyond which a segment is divided: optimising one took three times as much memory. */
export const SEGMENT_WEIGHTS_LIMIT = 128 * 1024 * 1024;

type Program = readonly EmittedSegment[];

/**
 * @param programs of all ranks, with the same number of segments
 * @param limit bytes of weights that a segment may have, unless one node has more
 */
export const divideLargeSegments = (
  programs: readonly Program[],
  limit = SEGMENT_WEIGHTS_LIMIT,
): readonly Program[] => {
  const [first = []] = programs;
  const stages = first.map((_, index) =>
    divideStage(
      programs.flatMap((program) => program[index] ?? []),
      limit,
    ),
  );
  return programs.map((_, rank) => stages.flatMap((ranks) => ranks[rank] ?? []));
};

/** One segment of every rank. */
const divideStage = (segments: readonly EmittedSegment[], limit: number): readonly Program[] => {
  const wanted = Math.max(...segments.map((segment) => Math.ceil(sliceBytes(segment.constants) / limit)));
  const possible = Math.min(...segments.map(({ model }) => model.graph?.node.length ?? 0));
  const count = Math.min(wanted, possible);
  if (count <= 1) return segments.map((segment) => [segment]);
  const pieces = segments.map((segment) => new Pieces(segment, count));
  return pieces.map((own) =>
    Array.from({ length: count }, (_, index) => own.build(index, (from, tensor) => pieces[from]?.madeIn(tensor) ?? 0)),
  );
};

const sliceBytes = (slices: readonly WeightSlice[]): number =>
  slices.reduce((sum, slice) => sum + sliceLayout(slice).bytes, 0);

/** Runs of nodes with about the same weights each, none of them empty. */
const runsOf = (segment: EmittedSegment, count: number): readonly (readonly NodeProto[])[] => {
  const nodes = segment.model.graph?.node ?? [];
  const unread = new Map(segment.constants.map((slice) => [slice.name, sliceLayout(slice).bytes]));
  const total = sliceBytes(segment.constants);
  const runs: NodeProto[][] = [[]];
  let weight = 0;
  for (const [index, node] of nodes.entries()) {
    const isFull = weight >= (runs.length / count) * total || nodes.length - index === count - runs.length;
    if (runs.length < count && runs.at(-1)?.length !== 0 && isFull) runs.push([]);
    runs.at(-1)?.push(node);
    for (const name of nodeReads(node)) {
      weight += unread.get(name) ?? 0;
      unread.delete(name);
    }
  }
  return runs;
};

class Pieces {
  readonly #segment: EmittedSegment;
  readonly #runs: readonly (readonly NodeProto[])[];
  readonly #reads: readonly ReadonlySet<string>[];
  readonly #madeIn = new Map<string, number>();
  /** The last piece that reads a tensor. */
  readonly #lastRead: ReadonlyMap<string, number>;
  readonly #constants: ReadonlyMap<string, WeightSlice>;
  readonly #inputs: ReadonlyMap<string, OpenSpec>;

  constructor(segment: EmittedSegment, count: number) {
    this.#segment = segment;
    this.#runs = runsOf(segment, count);
    this.#reads = this.#runs.map((nodes) => new Set(nodes.flatMap((node) => [...nodeReads(node)])));
    this.#lastRead = new Map(this.#reads.flatMap((names, index) => [...names].map((name) => [name, index] as const)));
    this.#constants = new Map(segment.constants.map((slice) => [slice.name, slice]));
    this.#inputs = new Map(segment.inputs.map((spec) => [spec.name, spec]));
    for (const [index, nodes] of this.#runs.entries()) {
      for (const name of nodes.flatMap(({ output }) => output)) this.#madeIn.set(name, index);
    }
  }

  /** The piece that makes a tensor; undefined where none of them does. */
  madeIn(name: string): number | undefined {
    return this.#madeIn.get(name);
  }

  /** @param sentAfter the piece after which a rank sends a tensor */
  build(index: number, sentAfter: (rank: number, tensor: string) => number): EmittedSegment {
    const reads = this.#reads[index] ?? new Set();
    const inputs = [...reads].flatMap((name) => this.#inputSpec(name, index) ?? []);
    const outputs = this.#outputs(index);
    const constants = [...reads].flatMap((name) => this.#constants.get(name) ?? []);
    return {
      model: this.#model(index, inputs, outputs, constants),
      constants,
      inputs,
      outputs,
      made: new Map([...this.#segment.made].filter(([name]) => this.#madeIn.get(name) === index)),
      sends: this.#segment.sends.filter(({ tensor }: Send) => this.#madeIn.get(tensor) === index),
      receives: this.#segment.receives.filter(({ from, tensor }: Receive) => sentAfter(from, tensor) === index),
      release: this.#release(index),
      peakBytes: this.#segment.peakBytes,
      quantized: this.#segment.quantized,
    };
  }

  /** Of what another piece or an earlier segment made. */
  #inputSpec(name: string, index: number): OpenSpec | undefined {
    const given = this.#inputs.get(name);
    if (given) return given;
    const piece = this.#madeIn.get(name);
    return piece === undefined || piece === index ? undefined : this.#madeSpec(name);
  }

  #madeSpec(name: string): OpenSpec {
    const spec = this.#segment.made.get(name);
    if (spec) return spec;
    throw new TandemError('PLAN_BROKEN', `Tensor "${name}" has no type and shape; please report this model.`);
  }

  #lastUse(name: string): number {
    return Math.max(this.#lastRead.get(name) ?? 0, this.#madeIn.get(name) ?? 0);
  }

  #outputs(index: number): readonly OpenSpec[] {
    const wanted = new Set(this.#segment.outputs.map(({ name }) => name));
    const made = [...this.#madeIn].flatMap(([name, piece]) => (piece === index && name !== '' ? [name] : []));
    return made.filter((name) => wanted.has(name) || this.#lastUse(name) > index).map((name) => this.#madeSpec(name));
  }

  /** What only this segment needs goes after its last use, be it within the whole segment or between pieces only. */
  #release(index: number): readonly string[] {
    const leaves = new Set(this.#segment.outputs.map(({ name }) => name));
    const between = [...this.#madeIn].flatMap(([name, piece]) =>
      !leaves.has(name) && this.#lastUse(name) > piece ? [name] : [],
    );
    return [...this.#segment.release, ...between].filter((name) => this.#lastUse(name) === index);
  }

  #model(
    index: number,
    inputs: readonly OpenSpec[],
    outputs: readonly OpenSpec[],
    constants: readonly WeightSlice[],
  ): ModelProto {
    const { irVersion, opsetImport, graph } = this.#segment.model;
    const declare = ({ name, dtype, shape }: OpenSpec) => createValueInfo(name, DTYPES[dtype].code, shape);
    const names = new Set(constants.map(({ name }) => name));
    return createModel({
      irVersion,
      opsetImport,
      graph: createGraph({
        name: graph?.name ?? 'segment',
        node: [...(this.#runs[index] ?? [])],
        initializer: (graph?.initializer ?? []).filter(({ name }) => names.has(name)),
        input: inputs.map(declare),
        output: outputs.map(declare),
      }),
    });
  }
}
