/**
 * The folder's public functions: ONNX file in, plan or shard directory out. In short:
 *
 *     read -> fold (dims, constants, shapes) -> canonicalise -> place -> choose -> cut -> emit (localise, divide, quantize)
 *     -> write (optimise)
 */

import { basename } from 'node:path';
import type { TensorMetadata } from '../common/onnxruntime.js';
import { TOOL_VERSION } from '../common/version.js';
import { declaredInputs, declaredOutputs } from './clean/fold.js';
import { toShards } from './content.js';
import { findAlternatives, findFaster, type PlanReport, recommend } from './decide/alternatives.js';
import { type DecideOptions, decide } from './decide/decide.js';
import { type Decided, makeReport } from './decide/report.js';
import { isOptimised, open, tellPlanned } from './open.js';
import type { DeviceSpec } from './plan/device.js';
import { type ReadOptions, readModel, type SourceModel } from './read/index.js';
import type { Dims, PartitionOptions, Split, SplitRequest, Watch } from './request.js';
import { AS_RATED, LINK_NAMES, requireLink } from './simulate/links.js';
import { type SimulatedTimes, simulateStep } from './simulate/simulate.js';
import { toStep } from './simulate/simulated-step.js';
import { writeShardDirectory } from './write/index.js';
import { FORMAT_VERSION, type Manifest, type OptimisedFor, type Quantize } from './write/manifest.js';
import { findTarget } from './write/optimise/target.js';

export {
  type Aim,
  aimMs,
  bestFor,
  type MeshCost,
  type MeshRequest,
  type MeshShape,
  meshSize,
  PASSES,
  type PipelinePlan,
  planMeshes,
  planPipeline,
  runsPassesApart,
  type StageStretch,
  type Stretch,
  shapesOf,
  shapeText,
  sides,
  tensorsOverAll,
} from './mesh/index.js';
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
