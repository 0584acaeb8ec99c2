/** Under which conditions something was measured: a figure means nothing without them. */
import { availableParallelism, cpus, totalmem } from 'node:os';
import { ONNXRUNTIME_VERSION } from '../../common/onnxruntime.js';
import { TOOL_VERSION } from '../../common/version.js';

export interface Conditions {
  /** ISO 8601, UTC */
  readonly date: string;
  readonly machine: {
    readonly processor: string;
    readonly cores: number;
    readonly memory_bytes: number;
    readonly platform: string;
  };
  readonly versions: { readonly tandem: string; readonly onnxruntime: string; readonly node: string };
}

export const conditionsNow = (): Conditions => ({
  date: new Date().toISOString(),
  machine: {
    processor: cpus()[0]?.model.trim() ?? 'unknown processor',
    cores: availableParallelism(),
    memory_bytes: totalmem(),
    platform: `${process.platform} ${process.arch}`,
  },
  versions: { tandem: TOOL_VERSION, onnxruntime: ONNXRUNTIME_VERSION, node: process.versions.node },
});
