/**
 * Several groups of devices for one model:
 *
 *     shape    how many devices for tensors, guidance, pipeline and replicas     cuts     where a pipeline's stages meet
 *     groups   what a group takes for one run                                    costs    what every shape takes, for both aims
 */
import { TandemError } from '../../common/errors.js';
import type { Stretch } from '../graph/stretch.js';
import { open, tellPlanned } from '../open.js';
import type { DeviceSpec } from '../plan/device.js';
import { readModel } from '../read/index.js';
import type { Dims, SplitRequest, Watch } from '../request.js';
import { costMeshes, type MeshCost } from './costs.js';
import type { StageStretch } from './cuts.js';
import { findStretches } from './groups.js';

export { type Aim, aimMs, bestFor, type MeshCost, tensorsOverAll } from './costs.js';
export type { StageStretch } from './cuts.js';
export { type MeshShape, meshSize, PASSES, runsPassesApart, shapesOf, shapeText, sides } from './shape.js';
export type { Stretch };

export interface MeshRequest extends SplitRequest {
  /** Sizes for one pass of guidance at a time; absent where a step has one pass, or the batch is fixed. */
  readonly apart?: Dims;
  /** Pictures that are made at once. */
  readonly concurrency: number;
}

/**
 * What every way to use the devices would cost.
 * @throws TandemError as `plan` does
 */
export const planMeshes = async (request: MeshRequest, watch: Watch = {}): Promise<readonly MeshCost[]> => {
  const source = await readModel(request.model.path, { requireWeights: false });
  const together = await open(source, request, watch);
  const apart = request.apart && (await open(source, { ...request, dims: request.apart }, watch));
  const costs = costMeshes(request.devices, { together, ...(apart ? { apart } : {}) }, request.concurrency);
  tellPlanned(watch);
  return costs;
};

/** The parts of a pipeline. */
export interface PipelinePlan {
  /** In the order in which they run. */
  readonly stretches: readonly StageStretch[];
  /** Names of the model's outputs. */
  readonly outputs: readonly string[];
}

/**
 * Where a model is cut for the devices of a pipeline, which are shared out among its stages in order.
 * @throws TandemError as `plan` does; PLAN_PIPELINE where it cannot be cut
 */
export const planPipeline = async (
  request: SplitRequest & { readonly devices: readonly DeviceSpec[] },
  stages: number,
  watch: Watch = {},
): Promise<PipelinePlan> => {
  const source = await readModel(request.model.path, { requireWeights: false });
  const { graph } = await open(source, request, watch);
  const stretches = findStretches(graph, request.devices, stages);
  tellPlanned(watch);
  if (stretches !== undefined) return { stretches, outputs: graph.outputs.map(({ name }) => name) };
  throw new TandemError(
    'PLAN_PIPELINE',
    `Expected a model that can be cut into ${stages} stages; found ${graph.nodes.length} nodes between which no tensor of a known size could be passed on. Use fewer stages, or split the tensors (parallel: tensor).`,
  );
};
