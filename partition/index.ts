/**
 * The folder's public functions: ONNX file in, plan or shard directory out. In short:
 *
 *     read -> fold (dims, constants, shapes) -> canonicalise -> place -> choose -> cut -> emit (localise, divide, quantize)
 *     -> write (optimise)
 */

import { basename, posix } from 'node:path';
import { TandemError } from '../common/errors.js';
import type { TensorMetadata } from '../common/onnxruntime.js';
import type { TensorSpec } from '../common/tensor.js';
import { TOOL_VERSION } from '../common/version.js';
import { canonicalise } from './clean/canonicalise.js';
import { type Dims, declaredInputs, declaredOutputs, fold } from './clean/fold.js';
import { findAlternatives, type PlanReport, recommend } from './decide/alternatives.js';
import { type DecideOptions, decide, type Programs, type Split } from './decide/decide.js';
import { type Decided, makeReport, sentBytes } from './decide/report.js';
import type { Graph, Node } from './graph/graph.js';
import { findScopes } from './graph/scopes.js';
import { createGraph, createModel } from './onnx/index.js';
import type { WireDtype } from './plan/choose.js';
import type { DeviceSpec } from './plan/device.js';
import { type ReadOptions, readModel, type SourceModel } from './read/index.js';
import { findFacts, operatorKey } from './rules/index.js';
import { divideLargeSegments } from './segments/divide.js';
import type { EmittedSegment } from './segments/emit.js';
import { quantizePrograms } from './segments/quantize/index.js';
import type { RankContent } from './write/index.js';
import { writeShardDirectory } from './write/index.js';
import { FORMAT_VERSION, type Manifest, type OptimisedFor, type Profile, type Quantize } from './write/manifest.js';
import { findTarget, isOptimisable } from './write/optimise/target.js';

export { checkOptimised, findOptimisedMismatch } from './write/optimise/target.js';
export type { DeviceSpec, Manifest, PlanReport, Quantize, Split };

export interface PartitionOptions {
  /** One per rank. */
  readonly devices: readonly DeviceSpec[];
  /** Sizes for the symbolic dims of each profile; `[{}]` for a static model. */
  readonly profiles: readonly Dims[];
  readonly wireDtype: WireDtype;
  /** The outputs that are wanted, by name: what only the others need is left out. All where absent. */
  readonly outputs?: readonly string[];
  /** What to make of the weights; `none` where absent. `int8` needs devices whose segments are optimised. */
  readonly quantize?: Quantize;
  /** `tensor` where absent. */
  readonly split?: Split;
  /**
   * Whether to optimise each rank's segments for its provider on this machine; true where absent. Otherwise every worker
   * does that at every start, and the shard directory serves other machines too.
   */
  readonly prepare?: boolean;
  /** Bytes of weights beyond which a segment is divided before it is optimised, which takes three times as much memory. */
  readonly segmentWeightsLimit?: number;
  /** Called as the stages go on; `done` of `total` in the stage's own unit. */
  readonly onProgress?: (stage: string, done: number, total: number) => void;
  readonly signal?: AbortSignal;
}

const STAGES = ['fold', 'place', 'choose', 'emit'] as const;

/** @throws TandemError MODEL_OUTPUTS for outputs that the model does not have */
const keepOutputs = (source: SourceModel, outputs: readonly string[]): SourceModel => {
  const { graph } = source.model;
  const unknown = outputs.filter((name) => !graph?.output.some((output) => output.name === name));
  if (graph === undefined || unknown.length > 0) {
    const have = graph?.output.map(({ name }) => name).join(', ');
    throw new TandemError(
      'MODEL_OUTPUTS',
      `Expected outputs that the model has (${have}); found ${unknown.join(', ')}. Ask for others, or export the model again.`,
    );
  }
  const output = graph.output.filter(({ name }) => outputs.includes(name));
  return { ...source, model: createModel({ ...source.model, graph: createGraph({ ...graph, output }) }) };
};

/** A profile's graph, checked, and how to decide about it. */
const openProfile = async (source: SourceModel, dims: Dims, options: PartitionOptions) => {
  checkQuantizable(options);
  const { devices, wireDtype, split = 'tensor', quantize, onProgress, signal } = options;
  const enter = (stage: (typeof STAGES)[number]) => {
    signal?.throwIfAborted();
    onProgress?.('plan', STAGES.indexOf(stage), STAGES.length);
  };
  enter('fold');
  const folded = await fold(options.outputs === undefined ? source : keepOutputs(source, options.outputs), dims);
  checkStraight(folded);
  const graph = canonicalise(folded);
  checkRepeatable(graph, devices.length);
  const divide = (programs: Programs): Programs =>
    devices.some((device) => isOptimised(device, options))
      ? divideLargeSegments(programs, options.segmentWeightsLimit)
      : programs;
  const finish = (programs: Programs): Programs =>
    quantize === 'int8' ? quantizePrograms(divide(programs)) : divide(programs);
  const scopes = findScopes(graph, source.model);
  return { graph, how: { devices, wireDtype, split, scopes, finish, onStage: enter } satisfies DecideOptions };
};

/** Decides everything for one profile. */
const decideProfile = async (source: SourceModel, dims: Dims, options: PartitionOptions): Promise<Decided> => {
  const { graph, how } = await openProfile(source, dims, options);
  const decided = decide(graph, how);
  options.onProgress?.('plan', STAGES.length, STAGES.length);
  return decided;
};

/** Int8 weights come into being when segments are optimised; the shape of what runs them fast is that of CPUs. */
const checkQuantizable = (options: PartitionOptions): void => {
  if (options.quantize !== 'int8') return;
  const unfit = options.devices.findIndex((device) => !isOptimisable(device.provider));
  if (unfit >= 0) {
    throw new TandemError(
      'QUANTIZE_PROVIDER',
      `int8 weights run on provider "cpu" only, but rank ${unfit} is "${options.devices[unfit]?.provider}". Use cpu devices, or leave int8 out.`,
    );
  }
  if (options.prepare === false) {
    throw new TandemError(
      'QUANTIZE_UNPREPARED',
      'int8 weights are made when segments are prepared, which was switched off. Let them be prepared, or leave int8 out.',
    );
  }
};

/** A subgraph reads tensors of the graph around it that its node does not list, so no stage after this one knows of them. */
const checkStraight = ({ nodes }: Graph): void => {
  const hasSubgraph = (node: Node) =>
    [...node.attributes.values()].some(({ g, graphs }) => g !== undefined || graphs.length > 0);
  const branches = nodes.filter(hasSubgraph);
  if (branches.length === 0) return;
  throw new TandemError(
    'MODEL_CONTROL_FLOW',
    'The model decides at run time what it computes, so it cannot be split beforehand. Export it with fixed sizes, so that its branches are decided and its loops unrolled:',
    { problems: branches.map((node) => `node "${node.name}" is ${operatorKey(node)}`) },
  );
};

/** Ranks that draw their own random numbers would each compute something else. */
const checkRepeatable = ({ nodes }: Graph, worldSize: number): void => {
  const random = nodes.filter((node) => findFacts(node).isRandom);
  if (random.length === 0 || worldSize === 1) return;
  throw new TandemError(
    'MODEL_RANDOM',
    'The model draws random numbers, so its ranks would not agree. Export it in evaluation mode (model.eval()), with noise as an input:',
    { problems: random.map(({ name, op }) => `node "${name}" is ${op}`) },
  );
};

const toSpec = ({
  name,
  dtype,
  shape,
}: {
  name: string;
  dtype: TensorSpec['dtype'];
  shape: readonly number[] | undefined;
}): TensorSpec => {
  if (shape) return { name, dtype, shape };
  throw new TandemError(
    'MODEL_SHAPE',
    `The size of "${name}" depends on data; only models whose inputs and outputs have fixed sizes can be run.`,
  );
};

const segmentFile = (rank: number, profile: number, segment: number): string =>
  posix.join(`rank-${rank}`, `profile-${profile}-segment-${String(segment).padStart(3, '0')}.onnx`);

const toProfile = (decided: Decided, dims: Dims, index: number): Profile => ({
  name:
    Object.entries(dims)
      .map(([name, size]) => `${name}=${size}`)
      .join(',') || 'static',
  dims,
  inputs: decided.graph.inputs.map(toSpec),
  outputs: decided.graph.outputs.map(toSpec),
  wire_bytes_per_step: Math.max(...decided.programs.map(sentBytes)),
  ranks: decided.programs.map((program, rank) => ({
    segments: program.map(({ inputs, outputs, sends, receives, release }, segment) => ({
      file: segmentFile(rank, index, segment),
      inputs: inputs.map(({ name }) => name),
      outputs,
      sends,
      receives,
      release,
    })),
  })),
});

const toRankContent = (
  rank: number,
  programs: readonly (readonly EmittedSegment[])[],
  prepared: OptimisedFor | undefined,
): RankContent => {
  const segments = programs.flatMap((program, profile) =>
    program.map((segment, i) => ({
      file: segmentFile(rank, profile, i),
      model: segment.model,
      constants: segment.constants,
    })),
  );
  const slices = new Map(segments.flatMap(({ constants }) => constants.map((slice) => [slice.name, slice] as const)));
  const quantized = new Map(programs.flat().flatMap((segment) => [...segment.quantized]));
  return {
    folder: `rank-${rank}`,
    slices: [...slices.values()],
    segments,
    quantized,
    ...(prepared ? { prepared } : {}),
  };
};

/**
 * The dry run: what partitioning would do. Needs the graph only; the weights' file may be missing.
 * @param modelPath an `.onnx` file
 * @throws TandemError of the reader and of `fold`; MODEL_CONTROL_FLOW, MODEL_RANDOM; PLAN_MEMORY where a rank's limit is too small
 */
export const plan = async (modelPath: string, options: PartitionOptions): Promise<PlanReport> => {
  const source = await readModel(modelPath, { requireWeights: false });
  const { graph, how } = await openProfile(source, options.profiles[0] ?? {}, options);
  const decided = decide(graph, how);
  const alternatives = findAlternatives(decided, { ...how, onStage: () => options.signal?.throwIfAborted() });
  options.onProgress?.('plan', STAGES.length, STAGES.length);
  return { ...makeReport(decided), alternatives, recommendation: recommend(alternatives) ?? null };
};

/**
 * What each rank would hold: as `plan`, without the other ways to use the devices, which take as long again.
 * @throws TandemError as `plan` does
 */
export const planRanks = async (modelPath: string, options: PartitionOptions): Promise<PlanReport['ranks']> => {
  const source = await readModel(modelPath, { requireWeights: false });
  return makeReport(await decideProfile(source, options.profiles[0] ?? {}, options)).ranks;
};

const isOptimised = ({ provider }: DeviceSpec, { prepare = true }: PartitionOptions): boolean =>
  prepare && isOptimisable(provider);

/** What each rank is optimised for. */
const findTargets = (options: PartitionOptions): Promise<readonly (OptimisedFor | undefined)[]> =>
  Promise.all(
    options.devices.map((device) => (isOptimised(device, options) ? findTarget(device.provider) : undefined)),
  );

/**
 * Splits a model for its devices and writes the shard directory, beside its place first and renamed when whole.
 * @throws TandemError as `plan` does, and of the writer
 */
export const partition = async (modelPath: string, out: string, options: PartitionOptions): Promise<Manifest> => {
  const source = await readModel(modelPath, { requireWeights: true });
  const decided: Decided[] = [];
  for (const dims of options.profiles) decided.push(await decideProfile(source, dims, options));
  const signal = options.signal ? { signal: options.signal } : {};
  const sha256 = await source.digest({
    ...signal,
    onProgress: (done, total) => options.onProgress?.('digest', done, total),
  });
  const manifest = {
    format_version: FORMAT_VERSION,
    tool_version: TOOL_VERSION,
    model: { name: basename(modelPath), sha256 },
    world_size: options.devices.length,
    wire_dtype: options.wireDtype,
    ...(options.quantize === 'int8' ? { quantize: options.quantize } : {}),
    profiles: decided.map((one, index) => toProfile(one, options.profiles[index] ?? {}, index)),
  };
  const targets = await findTargets(options);
  const ranks = options.devices.map((_, rank) =>
    toRankContent(
      rank,
      decided.map(({ programs }) => programs[rank] ?? []),
      targets[rank],
    ),
  );
  return writeShardDirectory(
    out,
    { manifest, ranks },
    { ...signal, onProgress: (done, total) => options.onProgress?.('write', done, total) },
  );
};

/** What can be told of a model without planning it. */
export interface Inspection {
  /** As declared; symbolic dims by name. */
  readonly inputs: readonly TensorMetadata[];
  readonly outputs: readonly TensorMetadata[];
  /** Absolute paths of the model's own file and of those that hold its weights. */
  readonly files: readonly string[];
}

/** Reads a model's graph; whether the files of its weights are there is looked at where `options` say so. */
export const inspect = async (
  modelPath: string,
  options: ReadOptions = { requireWeights: false },
): Promise<Inspection> => {
  const { path, model, weights } = await readModel(modelPath, options);
  const files = [...new Set([path, ...[...weights.values()].map(({ file }) => file)])];
  return { inputs: declaredInputs(model), outputs: declaredOutputs(model), files };
};
