/** Measures what a plan's costs rest on: this device's operators, on this model's shapes. */
import { canonicalise } from '../clean/canonicalise.js';
import { type Dims, fold } from '../clean/fold.js';
import { readModel } from '../read/index.js';
import { type Measured, type MeasuredDevice, type MeasureOptions, measureGraph } from './measure.js';

export { fitRates } from './fit.js';
export type { Measured, MeasuredDevice, MeasureOptions } from './measure.js';

/**
 * @param modelPath an `.onnx` file; its weights' file may be missing
 * @throws TandemError of the reader and of `fold`; as `measureGraph` does
 */
export const measureModel = async (
  modelPath: string,
  dims: Dims,
  device: MeasuredDevice,
  options: MeasureOptions = {},
): Promise<Measured> => {
  const source = await readModel(modelPath, { requireWeights: false });
  return measureGraph(canonicalise(await fold(source, dims)), device, options);
};
export { checkDevice, type DeviceCheck } from './device-check.js';
