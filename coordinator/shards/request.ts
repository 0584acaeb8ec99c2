/** What is asked of the partitioner for a network of a cluster, and where its shards are kept. */
import type { SplitRequest } from '../../partition/index.js';
import { splitOf } from '../../partition/mesh/shape.js';
import type { ClusterSettings, DeviceConfig } from '../config/index.js';
import type { Dims } from './dims.js';
import type { DenoiserModel } from './model.js';

export interface ShardRequest extends SplitRequest {
  readonly model: DenoiserModel;
  /** Index is the rank. */
  readonly devices: readonly DeviceConfig[];
  /** Where shard directories are kept; made where it is missing. */
  readonly root: string;
}

/** A denoiser and the sizes that it is opened with. */
export interface OpenedModel {
  readonly model: DenoiserModel;
  /** A size for every symbolic dim. */
  readonly dims: Dims;
}

/** For a cluster's denoiser. */
export const denoiserRequest = (
  { devices, wire, quantize, shards, split, mesh }: ClusterSettings,
  { model, dims }: OpenedModel,
): ShardRequest => ({
  model,
  dims,
  devices,
  wire: wire.dtype,
  quantize,
  split: mesh === undefined ? split : splitOf(mesh),
  root: shards,
});
