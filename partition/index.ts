/**
 * The folder's public functions: ONNX file in, plan or shard directory out. In short:
 *
 *     read -> fold (dims, constants, shapes) -> canonicalise -> place -> choose -> cut -> emit (localise, divide, quantize)
 *     -> write (optimise)
 */

import { basename } from 'node:path';
import { TandemError } from '../common/errors.js';
import type { TensorMetadata } from '../common/onnxruntime.js';
import { TOOL_VERSION } from '../common/version.js';
import { canonicalise } from './clean/canonicalise.js';
import { checkRepeatable, checkSized, checkStraight } from './clean/check.js';
import { declaredInputs, declaredOutputs, fold } from './clean/fold.js';
import { toShards } from './content.js';
import { findAlternatives, findFaster, type PlanReport, recommend } from './decide/alternatives.js';
import { type DecideOptions, decide } from './decide/decide.js';
import { type Decided, makeReport } from './decide/report.js';
import { findScopes } from './graph/scopes.js';
import { createGraph, createModel } from './onnx/index.js';
import type { DeviceSpec } from './plan/device.js';
import { type ReadOptions, readModel, type SourceModel } from './read/index.js';
import type { Dims, PartitionOptions, Split, SplitRequest, Watch } from './request.js';
import { divideLargeSegments } from './segments/divide.js';
import { sendInt8 } from './segments/int8-wire.js';
import { quantizePrograms } from './segments/quantize/index.js';
import type { Program } from './segments/rank-program.js';
import { AS_RATED, LINK_NAMES, requireLink } from './simulate/links.js';
import { toStep } from './simulate/program.js';
import { type SimulatedTimes, simulateStep } from './simulate/simulate.js';
import { writeShardDirectory } from './write/index.js';
import { FORMAT_VERSION, type Manifest, type OptimisedFor, type Quantize } from './write/manifest.js';
import { findTarget, isOptimisable } from './write/optimise/target.js';

export { checkOptimised, findOptimisedMismatch } from './write/optimise/target.js';
export type {
  DeviceSpec,
  Dims,
  Manifest,
  PartitionOptions,
  PlanReport,
  Quantize,
  SimulatedTimes,
  Split,
  SplitRequest,
  Watch,
};
export { LINK_NAMES };

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

/**
 * The largest denoisers known have half as many. Every stage takes a time that grows with the graph and no faster, about a
 * millisecond a node in all, so that a graph within the limit is planned in about a minute, whatever is in it.
 */
const MAX_NODES = 65_536;

/** @throws TandemError `MODEL_TOO_LARGE` */
const checkSize = ({ model }: SourceModel): void => {
  const nodes = model.graph?.node.length ?? 0;
  if (nodes <= MAX_NODES) return;
  throw new TandemError(
    'MODEL_TOO_LARGE',
    `Expected a graph of at most ${MAX_NODES} nodes, found ${nodes}; export the model without unrolling its loops.`,
  );
};

/** The model's graph, checked, and how to decide about it. */
const open = async (source: SourceModel, request: SplitRequest, options: PartitionOptions) => {
  checkQuantizable(request, options);
  checkSize(source);
  const { devices, dims, wire, split = 'tensor', quantize, outputs } = request;
  const { onProgress, signal } = options;
  const enter = (stage: (typeof STAGES)[number]) => {
    signal?.throwIfAborted();
    onProgress?.('plan', STAGES.indexOf(stage), STAGES.length);
  };
  enter('fold');
  const folded = await fold(outputs === undefined ? source : keepOutputs(source, outputs), dims);
  checkStraight(folded);
  const graph = canonicalise(folded);
  checkRepeatable(graph, devices.length);
  checkSized(graph);
  const divide = (programs: readonly Program[]): readonly Program[] =>
    devices.some((device) => isOptimised(device, options))
      ? divideLargeSegments(programs, options.segmentWeightsLimit)
      : programs;
  const send = (programs: readonly Program[]): readonly Program[] => (wire === 'int8' ? sendInt8(programs) : programs);
  const finish = (programs: readonly Program[]): readonly Program[] =>
    quantize === 'int8' ? quantizePrograms(divide(send(programs))) : divide(send(programs));
  const scopes = findScopes(graph, source.model);
  return { graph, how: { devices, wire, split, scopes, finish, onStage: enter } satisfies DecideOptions };
};

/** Decides everything about a model. */
const decideModel = async (
  source: SourceModel,
  request: SplitRequest,
  options: PartitionOptions,
): Promise<{ readonly decided: Decided; readonly how: DecideOptions }> => {
  const { graph, how } = await open(source, request, options);
  return { decided: decide(graph, how), how };
};

const readGraph = ({ model }: SplitRequest): Promise<SourceModel> => readModel(model.path, { requireWeights: false });

const tellPlanned = ({ onProgress }: Watch): void => onProgress?.('plan', STAGES.length, STAGES.length);

/** Int8 weights come into being when segments are optimised; the shape of what runs them fast is that of CPUs. */
const checkQuantizable = ({ quantize, devices }: SplitRequest, { optimise }: PartitionOptions): void => {
  if (quantize !== 'int8') return;
  const unfit = devices.findIndex((device) => !isOptimisable(device.provider));
  if (unfit >= 0) {
    throw new TandemError(
      'QUANTIZE_PROVIDER',
      `int8 weights run on provider "cpu" only, but rank ${unfit} is "${devices[unfit]?.provider}". Use cpu devices, or leave int8 out.`,
    );
  }
  if (optimise === false) {
    throw new TandemError(
      'QUANTIZE_UNPREPARED',
      'int8 weights are made when segments are prepared, which was switched off. Let them be prepared, or leave int8 out.',
    );
  }
};

/**
 * The dry run: what partitioning would do. Needs the graph only; the weights' file may be missing.
 * @throws TandemError of the reader and of `fold`; MODEL_CONTROL_FLOW, MODEL_RANDOM; PLAN_MEMORY where a rank's limit is too small
 */
export const plan = async (request: SplitRequest, watch: Watch = {}): Promise<PlanReport> => {
  const { decided, how } = await decideModel(await readGraph(request), request, watch);
  const alternatives = findAlternatives(decided, { ...how, onStage: () => watch.signal?.throwIfAborted() });
  tellPlanned(watch);
  return {
    ...makeReport(decided),
    alternatives,
    recommended: findFaster(alternatives) ?? null,
    recommendation: recommend(alternatives) ?? null,
  };
};

export interface SimulationOptions {
  /** By name, as `findLink` knows them; `AS_RATED` for what the devices' rates say. */
  readonly links: readonly string[];
  /** Runs of the model in a step. */
  readonly microBatches: number;
}

/**
 * What a step of a model's split would take over each of these links.
 * @throws TandemError as `plan` does; `LINK_UNKNOWN`
 */
export const simulate = async (
  request: SplitRequest,
  { links, microBatches }: SimulationOptions,
  watch: Watch = {},
): Promise<readonly SimulatedTimes[]> => {
  const found = links.map((name) => (name === AS_RATED ? undefined : requireLink(name)));
  const { decided } = await decideModel(await readGraph(request), request, watch);
  return found.map((link) => simulateStep(toStep(decided, microBatches, link)));
};

/**
 * What each rank would hold: as `plan`, without the other ways to use the devices, which take as long again.
 * @throws TandemError as `plan` does
 */
export const planRanks = async (request: SplitRequest, watch: Watch = {}): Promise<PlanReport['ranks']> => {
  const { decided } = await decideModel(await readGraph(request), request, watch);
  tellPlanned(watch);
  return makeReport(decided).ranks;
};

const isOptimised = ({ provider }: DeviceSpec, { optimise = true }: PartitionOptions): boolean =>
  optimise && isOptimisable(provider);

/** What each rank's segments are optimised for. */
const findTargets = (
  { devices }: SplitRequest,
  options: PartitionOptions,
): Promise<readonly (OptimisedFor | undefined)[]> =>
  Promise.all(devices.map((device) => (isOptimised(device, options) ? findTarget(device.provider) : undefined)));

/** The same, for a stage that does not say its name. */
const watching = (stage: string, { signal, onProgress }: Watch) => ({
  ...(signal ? { signal } : {}),
  onProgress: (done: number, total: number) => onProgress?.(stage, done, total),
});

/**
 * Splits a model for its devices and writes the shard directory, beside its place first and renamed when whole.
 * @throws TandemError as `plan` does, and of the writer
 */
export const partition = async (
  request: SplitRequest,
  out: string,
  options: PartitionOptions = {},
): Promise<Manifest> => {
  const { path } = request.model;
  const source = await readModel(path, { requireWeights: true });
  const { decided } = await decideModel(source, request, options);
  tellPlanned(options);
  const { profile, ranks } = toShards(decided, request.dims, await findTargets(request, options));
  const manifest = {
    format_version: FORMAT_VERSION,
    tool_version: TOOL_VERSION,
    model: { name: basename(path), sha256: await source.digest(watching('digest', options)) },
    world_size: request.devices.length,
    wire_dtype: request.wire,
    ...(request.quantize === 'int8' ? { quantize: request.quantize } : {}),
    profiles: [profile],
  };
  const { alongside } = options;
  const sharing = alongside === undefined ? {} : { alongside };
  return writeShardDirectory(out, { manifest, ranks }, { ...watching('write', options), ...sharing });
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
