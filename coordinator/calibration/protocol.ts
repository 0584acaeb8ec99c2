/** The messages between the coordinator and the process that measures operators. Both ends are ours and of one version. */
import type { Answer } from '../../common/answer.js';
import type { Measured, MeasuredDevice } from '../../partition/calibrate/index.js';
import type { Dims } from '../shards/dims.js';

export interface MeasureRequest {
  /** The `.onnx` file. */
  readonly model: string;
  readonly dims: Dims;
  readonly device: MeasuredDevice;
}

export type FromMeasuring =
  | { readonly kind: 'progress'; readonly done: number; readonly total: number }
  | Answer<Measured>;
