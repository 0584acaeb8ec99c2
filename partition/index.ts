/** The folder's public functions: ONNX file in, plan or shard directory out. */
import type { Manifest } from './manifest.js';
import type { Provider } from './onnxruntime.js';
import type { PlanReport } from './report.js';

/** A device of the cluster as the planner sees it; index in the list is the rank. */
export interface DeviceSpec {
  readonly provider: Provider;
  readonly deviceId: number;
  /** Speed relative to the others; a rank of speed 2 gets twice the share of one of speed 1. */
  readonly speed: number;
  /** Bytes of weights and activations that fit; unlimited where absent. */
  readonly memoryLimit?: number;
}

export interface PartitionOptions {
  /** One per rank. */
  readonly devices: readonly DeviceSpec[];
  /** Sizes for the symbolic dims of each profile; `[{}]` for a static model. */
  readonly profiles: readonly Readonly<Record<string, number>>[];
  readonly wireDtype: 'fp32' | 'fp16';
  /** Called as the stages go on; `done` of `total` in the stage's own unit. */
  readonly onProgress?: (stage: string, done: number, total: number) => void;
}

export type { Manifest, PlanReport };
