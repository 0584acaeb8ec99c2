/** A device, as the planner sees it. */
import type { Provider } from '../../common/onnxruntime.js';
import type { RatedDevice } from './rates.js';

/** A device of the cluster as the planner sees it; index in the list is the rank. */
export interface DeviceSpec extends RatedDevice {
  readonly deviceId: number;
  /**
   * Speed relative to the others; a rank of speed 2 gets twice the share of one of speed 1. Where absent: as measured on this
   * model's operators, or 1 where nothing was measured.
   */
  readonly speed?: number;
  /** Bytes of weights and activations that fit; unlimited where absent. */
  readonly memoryLimit?: number;
  /** Bytes of the largest tensor that it takes; as `BUFFER_LIMITS` has it where absent. */
  readonly bufferLimit?: number;
}

/**
 * Bytes of the largest tensor of a provider's devices, of the largest ones: `maxStorageBufferBindingSize` of WebGPU is a number of 32
 * bits, and what cards have is 128 MiB, which the standard asks for, to this (https://www.w3.org/TR/webgpu/#limits).
 */
const BUFFER_LIMITS: Readonly<Partial<Record<Provider, number>>> = { webgpu: 2 ** 32 - 4 };

export const bufferLimitOf = ({ provider, bufferLimit }: DeviceSpec): number =>
  bufferLimit ?? BUFFER_LIMITS[provider] ?? Number.POSITIVE_INFINITY;
