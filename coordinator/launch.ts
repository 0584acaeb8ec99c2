/** Starts a config's workers and keeps them: what `tandem launch` does, as a function. */
import type { Workers } from './cluster/index.js';
import type { ClusterConfig } from './config/index.js';
import { type PlannedModel, planModel } from './generate/picture.js';
import type { Hooks } from './hooks.js';
import { prepareMesh, startMesh } from './mesh/index.js';
import type { Dims } from './shards/dims.js';
import type { DenoiserModel } from './shards/model.js';
import type { PreparedShards } from './shards/prepare.js';
import { residency } from './start-cluster.js';
import { checkWireError } from './verify/wire-error.js';

export interface LaunchConfigRequest extends Hooks {
  readonly config: ClusterConfig;
  /** Sizes of symbolic dims by name; the config's default picture decides those that are left out. */
  readonly dims?: Dims;
  /** What `planModel` gave for these, where the caller has asked it already. */
  readonly planned?: PlannedModel;
}

/** Running workers. */
export interface Launched {
  readonly model: DenoiserModel;
  readonly cluster: Workers;
  readonly shards: PreparedShards;
  /** ms from the first process's start until every worker was ready */
  readonly loadMs: number;
}

/**
 * Starts a config's workers, all at once. The caller closes the cluster.
 * @throws TandemError as `planModel`, `prepareShards` and `launchCluster` do; no process is left behind then
 */
export const launch = async (request: LaunchConfigRequest): Promise<Launched> => {
  const { config } = request;
  const planned = request.planned ?? (await planModel(config, request.dims));
  await checkWireError(config, planned, request);
  const ready = await prepareMesh(config, planned, request, config.loadParts === 'on-demand');
  const { workers, loadMs } = await startMesh(ready, config, request, residency(config));
  return { model: planned.model, shards: ready.shards, cluster: workers, loadMs };
};
