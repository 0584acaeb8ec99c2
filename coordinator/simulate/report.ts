/** What a simulation tells. */
import type { SimulatedTimes } from '../../partition/index.js';

export interface SimulatedPoint extends SimulatedTimes {
  readonly devices: number;
  readonly link: string;
  /** Against one device. */
  readonly speedup: number;
}

/** What `tandem simulate` says; the JSON keys are a contract. */
export interface SimulationReport {
  readonly model: string;
  readonly micro_batches: number;
  readonly calibrated: boolean;
  readonly points: readonly SimulatedPoint[];
}
