import { canonicalise } from '#tandem/partition/clean/canonicalise.js';
import { type Dims, fold } from '#tandem/partition/clean/fold.js';
import type { PlanReport } from '#tandem/partition/decide/alternatives.js';
import type { CollectiveKind } from '#tandem/partition/graph/collective.js';
import type { Graph } from '#tandem/partition/graph/graph.js';
import { choose, type Plan, type WireDtype } from '#tandem/partition/plan/choose.js';
import { type Cut, cut } from '#tandem/partition/plan/cut.js';
import { ratesOf } from '#tandem/partition/plan/rates.js';
import { type Placements, place } from '#tandem/partition/plan/states.js';
import { readModel } from '#tandem/partition/read/index.js';
import { type EmitOptions, emitRank } from '#tandem/partition/segments/emit.js';
import { fuseAttention as fuse } from '#tandem/partition/segments/fuse-attention.js';
import { type Program, withGraphs } from '#tandem/partition/segments/rank-program.js';
import { graphOnly } from '../fixtures/materialise.js';
import { withDirectory as inDirectory } from '../support/directory.js';

export { inDirectory };

/** A model's graph, folded and canonical; its weights need not be there. */
export const readGraph = async (modelPath: string, dims: Dims = {}): Promise<Graph> =>
  canonicalise(await fold(await readModel(modelPath, { requireWeights: false }), dims));

/** The graph of a skeleton in `fixtures/unets`. */
export const readFixture = (name: string, dims: Dims = {}): Promise<Graph> =>
  inDirectory(async (directory) => readGraph(await graphOnly(name, directory), dims));

export interface Planned {
  readonly placements: Placements;
  readonly plan: Plan;
  readonly cut: Cut;
  /** Index is the rank. */
  readonly programs: readonly Program[];
}

/** Plans a graph for CPU devices of these speeds. */
export const planGraph = (
  graph: Graph,
  speeds: readonly number[],
  wireDtype: WireDtype = 'fp32',
  { fuseAttention = true }: { readonly fuseAttention?: boolean } = {},
): Planned => {
  const placements = place(graph, { speeds });
  const plan = choose(graph, placements, {
    rates: speeds.map((speed) => ratesOf({ provider: 'cpu', speed })),
    wireDtype,
  });
  const sections = cut(graph, plan);
  const emitted = emitAll(graph, plan, sections, { worldSize: speeds.length, wireDtype });
  const programs = fuseAttention ? emitted.map((program) => withGraphs(program, fuse)) : emitted;
  return { placements, plan, cut: sections, programs };
};

/** The programs of all ranks. */
export const emitAll = (graph: Graph, plan: Plan, sections: Cut, options: EmitOptions): Planned['programs'] =>
  Array.from({ length: options.worldSize }, (_, rank) => emitRank(graph, plan, sections, rank, options));

/** Tensors that are added up over the ranks, in one collective or, as a reduce-scatter and perhaps an all-gather, in two. */
export const countSums = ({
  collectives,
}: {
  readonly collectives: readonly { readonly kind: CollectiveKind }[];
}): number => collectives.filter(({ kind }) => kind === 'all-reduce' || kind === 'reduce-scatter').length;

/** All-gathers that are not the second half of an all-reduce. */
export const countGathers = ({ collectives }: Pick<PlanReport, 'collectives'>): number => {
  const scattered = new Set(collectives.flatMap(({ kind, tensor }) => (kind === 'reduce-scatter' ? [tensor] : [])));
  return collectives.filter(({ kind, tensor }) => kind === 'all-gather' && !scattered.has(tensor)).length;
};

/** Modules that a network has in a row: `transformer_blocks.3`, `layers.0`, `noise_refiner.1`. */
const IN_A_ROW = /block|layers\.\d|refiner/;
/** A row of layers that makes something of the time alone. */
const BESIDE = /embedder|distilled_guidance/;

/**
 * Tensors that are exchanged inside of the network's blocks, sums and gathers alike: those of one row a sample, which is what is
 * made of the time, are left out, for all of them travel together before the first block.
 */
const exchangedInside = ({ blocks, collectives }: Pick<PlanReport, 'blocks' | 'collectives'>): ReadonlySet<string> => {
  const inside = blocks.filter(({ scope }) => IN_A_ROW.test(scope.join('/')) && !BESIDE.test(scope.join('/')));
  const names = new Set(inside.flatMap(({ exchanges }) => exchanges));
  const hasRows = (shape: readonly number[]) => shape.slice(1, -1).reduce((rows, size) => rows * size, 1) > 1;
  return new Set(collectives.flatMap(({ tensor, shape }) => (names.has(tensor) && hasRows(shape) ? [tensor] : [])));
};

/** How many tensors are exchanged inside of blocks. */
export const countInside = (report: Pick<PlanReport, 'blocks' | 'collectives'>): number => exchangedInside(report).size;

/** How many times ranks exchange something inside of blocks, however many tensors travel together. */
export const countRoundsInside = (report: Pick<PlanReport, 'blocks' | 'collectives'>, { collectives }: Cut): number => {
  const names = exchangedInside(report);
  return new Set(collectives.flatMap(({ value, after }) => (names.has(value.name) ? [after] : []))).size;
};

const SYMBOLIC: Dims = { batch_size: 2, height: 16, width: 16, sequence_length: 16 };

/** The small real exports, with sizes for those that have symbolic dims. */
export const TINY_EXPORTS: readonly (readonly [name: string, dims: Dims])[] = [
  ['tiny-ts14', {}],
  ['tiny-ts14-sym', SYMBOLIC],
  ['tiny-ts17', {}],
  ['tiny-ts17-sym', SYMBOLIC],
  ['tiny-dynamo18', {}],
  ['tiny-dynamo18-sym', SYMBOLIC],
  ['tiny-5heads-ts17', {}],
  ['tiny-linearproj-dynamo18', {}],
  ['tiny-oldattn-ts14', {}],
];
