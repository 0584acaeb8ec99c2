/** What a decided split computes and sends, segment by segment, for the simulation. */
import type { Decided } from '../decide/report.js';
import { sentElements } from '../graph/collective.js';
import { wireElementBytes } from '../plan/choose.js';
import { collectiveMs, nodeMs, rankMs } from '../plan/cost.js';
import { type LinkRates, type Rates, ratesOf } from '../plan/rates.js';
import type { SimulatedSegment, SimulatedStep } from './simulate.js';

/** By segment: operators, and what joins or adds up what arrived before it. */
const computeMsOf = ({ graph, plan, cut, devices }: Decided, rank: number, rates: Rates): readonly number[] => {
  const ms = Array.from({ length: cut.segmentCount }, () => rates.segmentMs);
  const add = (segment: number, more: number): void => {
    ms[segment] = (ms[segment] ?? 0) + more;
  };
  for (const node of graph.nodes) {
    const segment = cut.segmentOf.get(node);
    const row = plan.rows.get(node);
    if (segment !== undefined) add(segment, row ? rankMs(node, row, rank, rates) : nodeMs(node, rates));
  }
  for (const one of cut.collectives) add(one.after + 1, collectiveMs(one.value, one, rank, rates, devices.length));
  return ms;
};

/** By segment: bytes to each rank. A collective's bytes go to all others in equal parts. */
const sendsOf = ({ cut, devices, wireDtype }: Decided, rank: number): readonly (readonly number[])[] => {
  const count = devices.length;
  const sends = Array.from({ length: cut.segmentCount }, () => Array.from({ length: count }, () => 0));
  for (const collective of cut.collectives) {
    const { value, after } = collective;
    const bytes = sentElements(value.shape ?? [], collective, rank, count) * wireElementBytes(value.dtype, wireDtype);
    const own = sends[after] ?? [];
    for (let to = 0; to < count; to++) if (to !== rank) own[to] = (own[to] ?? 0) + bytes / (count - 1);
  }
  return sends;
};

/**
 * A decided split as a step to simulate.
 * @param link in place of what the devices' rates say
 */
export const toStep = (decided: Decided, microBatches: number, link?: LinkRates): SimulatedStep => {
  const rates = decided.devices.map(ratesOf);
  return {
    ranks: rates.map((one, rank): readonly SimulatedSegment[] => {
      const sends = sendsOf(decided, rank);
      return computeMsOf(decided, rank, one).map((computeMs, segment) => ({ computeMs, sends: sends[segment] ?? [] }));
    }),
    links: rates.map((one) => link ?? one),
    microBatches,
    controlMs: Math.max(...rates.map(({ stepMs }) => stepMs)),
  };
};
