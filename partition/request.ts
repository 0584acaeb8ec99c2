/** What is asked of the partitioner. Whatever plans, splits, fingerprints, verifies or measures a model does it by one of these. */
import type { Dims } from './clean/fold.js';
import type { Stretch } from './graph/stretch.js';
import type { WireDtype } from './plan/choose.js';
import type { DeviceSpec } from './plan/device.js';
import type { Split } from './plan/states.js';
import type { Quantize } from './write/manifest.js';

export type { Dims, Split, Stretch };

export interface SplitRequest {
  /** An `.onnx` file. */
  readonly model: { readonly path: string };
  /** A size for every symbolic dim; `{}` for a static model. */
  readonly dims: Dims;
  /** One per rank. */
  readonly devices: readonly DeviceSpec[];
  /** Element type of what the ranks send each other. */
  readonly wire: WireDtype;
  /** What to make of the weights; `none` where absent. `int8` needs devices whose segments are optimised. */
  readonly quantize?: Quantize;
  /** `tensor` where absent. */
  readonly split?: Split;
  /** The outputs that are wanted, by name: what only the others need is left out. All where absent. */
  readonly outputs?: readonly string[];
  /** A part of the model, as a stage of a pipeline runs it; all of it where absent. */
  readonly stretch?: Stretch;
}

/** How the stages' work is watched and stopped. */
export interface Watch {
  /** Called as the stages go on; `done` of `total` in the stage's own unit. */
  readonly onProgress?: (stage: string, done: number, total: number) => void;
  readonly signal?: AbortSignal;
}

export interface PartitionOptions extends Watch {
  /**
   * Whether to optimise each rank's segments for its provider on this machine; true where absent. Otherwise every worker
   * does that at every start, and the shard directory serves other machines too.
   */
  readonly optimise?: boolean;
  /** A shard directory of the same model for other sizes: what it holds is shared with it, not written again. */
  readonly alongside?: string;
  /** Bytes of weights beyond which a segment is divided before it is optimised, which takes three times as much memory. */
  readonly segmentWeightsLimit?: number;
}
