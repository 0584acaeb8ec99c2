/** Models split for devices between which collectives cost what a test says, and what comes of it. */
import { type DeviceSpec, type PlanReport, plan, type SplitRequest } from '#tandem/partition/index.js';
import { RATES } from '#tandem/partition/plan/rates.js';
import { type Outcome, runPartition } from './small-model.js';

/** CPUs whose ranks wait this long for each other, in every exchange, on a link whose bytes count. */
export const cpus = (speeds: readonly number[], waitMs: number): readonly DeviceSpec[] =>
  speeds.map((speed) => ({
    provider: 'cpu',
    deviceId: 0,
    speed,
    rates: { ...RATES.cpu, latencyMs: waitMs, wireBytesPerMs: 0.4e6, segmentMs: 0 },
  }));

export interface Run extends Outcome {
  readonly report: PlanReport;
}

export const runModel = async (request: SplitRequest, out: string): Promise<Run> => ({
  ...(await runPartition(request, out)),
  report: await plan(request),
});
