/** A model's step on numbers of devices and over links that need not be there: planned for each number, and simulated. */
import { type SimulatedTimes, simulate } from '../../partition/index.js';
import type { ClusterSettings, DeviceConfig } from '../config/index.js';
import { withCalibration } from '../config/measured-rates.js';
import type { Hooks } from '../hooks.js';
import { denoiserRequest, type OpenedModel } from '../shards/request.js';

export interface SimulationRequest extends Hooks, OpenedModel {
  readonly counts: readonly number[];
  /** By name, as `findLink` knows them. */
  readonly links: readonly string[];
  readonly microBatches: number;
  readonly settings: (count: number) => ClusterSettings;
}

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

const isRated = ({ rates }: DeviceConfig): boolean => rates !== undefined;

/** @throws TandemError as `plan` does; `LINK_UNKNOWN` */
export const simulateModel = async (request: SimulationRequest): Promise<SimulationReport> => {
  const { model, dims, counts, links, microBatches, onProgress } = request;
  const timed = async (count: number) => {
    const settings = await withCalibration(request.settings(count));
    const times = await simulate(denoiserRequest(settings, { model, dims }), { links, microBatches }, request);
    return { times, calibrated: settings.devices.every(isRated) };
  };
  const alone = await timed(1);
  const single = alone.times[0]?.stepMs ?? Number.NaN;
  const points: SimulatedPoint[] = [];
  for (const [index, devices] of counts.entries()) {
    onProgress?.('simulate', index, counts.length);
    const { times } = devices === 1 ? alone : await timed(devices);
    for (const [at, one] of times.entries())
      points.push({ devices, link: links[at] ?? '', ...one, speedup: single / one.stepMs });
  }
  onProgress?.('simulate', counts.length, counts.length);
  return { model: model.name, micro_batches: microBatches, calibrated: alone.calibrated, points };
};
