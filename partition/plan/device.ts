/** A device, as the planner sees it. */
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
}
