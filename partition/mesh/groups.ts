/** What a group of devices that has all of a model takes for one run of it: as one stage, or as a pipeline of several. */
import { byteLength } from '../../common/tensor.js';
import { type DecideOptions, decide } from '../decide/decide.js';
import { type MadeReport, makeReport } from '../decide/report.js';
import type { Graph } from '../graph/graph.js';
import { stretchOf, workOf } from '../graph/stretch.js';
import { nodeMs } from '../plan/cost.js';
import type { DeviceSpec } from '../plan/device.js';
import { ratesOf } from '../plan/rates.js';
import { cutStages, type StageStretch } from './cuts.js';

export interface GroupCost {
  /** Of each stage, for one run of the model; ms. */
  readonly stageMs: readonly number[];
  /** Index is the rank in the group: stage by stage. */
  readonly ranks: readonly { readonly weight_bytes: number; readonly activation_peak_bytes: number }[];
  /** Bytes of a run that the rank with the most to send sends, and what crosses between stages. */
  readonly sentBytes: number;
}

/** The devices of each stage. */
export const stagesOf = <T>(devices: readonly T[], stages: number): readonly (readonly T[])[] =>
  Array.from({ length: stages }, (_, stage) =>
    devices.slice((stage * devices.length) / stages, ((stage + 1) * devices.length) / stages),
  );

const sum = (numbers: readonly number[]): number => numbers.reduce((total, number) => total + number, 0);

/** One after the other, as many for the work of all. */
const speedOf = (graph: Graph, devices: readonly DeviceSpec[]): number =>
  sum(devices.map((device) => 1 / sum(graph.nodes.map((node) => nodeMs(node, ratesOf(device))))));

/** A graph's stages, in the order of their work; undefined where it cannot be cut. */
export const findStretches = (
  graph: Graph,
  devices: readonly DeviceSpec[],
  stages: number,
): readonly StageStretch[] | undefined => {
  const [device] = devices;
  if (device === undefined) return undefined;
  const rates = ratesOf(device);
  return cutStages({
    nodes: workOf(graph).nodes,
    nodeMs: (node) => nodeMs(node, rates),
    sendMs: (bytes) => (2 * bytes) / rates.wireBytesPerMs,
    speeds: stagesOf(devices, stages).map((own) => speedOf(graph, own)),
  });
};

const reportOf = (graph: Graph, devices: readonly DeviceSpec[], how: DecideOptions): MadeReport =>
  makeReport(decide(graph, { ...how, devices: devices.map(({ memoryLimit: _, ...device }) => device) }));

const wholeCost = (graph: Graph, devices: readonly DeviceSpec[], how: DecideOptions): GroupCost => {
  const { predicted, ranks, wire_bytes_per_step } = reportOf(graph, devices, how);
  return { stageMs: [predicted.step_ms], ranks, sentBytes: wire_bytes_per_step };
};

/** Bytes that come to a stretch's devices and leave them, by way of the coordinator. */
const passedBytes = ({ inputs, outputs }: Graph): number =>
  sum([...inputs, ...outputs].map(({ dtype, shape }) => (shape ? byteLength({ dtype, shape }) : 0)));

interface StretchCost {
  readonly stage: number;
  readonly ms: number;
  readonly passed: number;
  readonly report: MadeReport;
}

const stretchCost = (
  graph: Graph,
  stretch: StageStretch,
  devices: readonly DeviceSpec[],
  how: DecideOptions,
): StretchCost => {
  const own = stretchOf(graph, stretch);
  const report = reportOf(own, devices, how);
  const passed = passedBytes(own);
  const [device] = devices;
  const sendMs = device === undefined ? 0 : passed / ratesOf(device).wireBytesPerMs;
  return { stage: stretch.stage, ms: report.predicted.step_ms + sendMs, passed, report };
};

/** A rank has the weights of all its stage's stretches, and runs one of them at a time. */
const ranksOf = (stretches: readonly StretchCost[], ranks: number): GroupCost['ranks'] =>
  Array.from({ length: ranks }, (_, rank) => {
    const own = stretches.map(({ report }) => report.ranks[rank]);
    return {
      weight_bytes: sum(own.map((one) => one?.weight_bytes ?? 0)),
      activation_peak_bytes: Math.max(0, ...own.map((one) => one?.activation_peak_bytes ?? 0)),
    };
  });

/** Undefined where the model cannot be cut into so many stages. */
export const groupCost = (
  graph: Graph,
  devices: readonly DeviceSpec[],
  stages: number,
  how: DecideOptions,
): GroupCost | undefined => {
  if (stages === 1) return wholeCost(graph, devices, how);
  const found = findStretches(graph, devices, stages);
  if (found === undefined) return undefined;
  const parts = stagesOf(devices, stages);
  const costs = found.map((stretch) => stretchCost(graph, stretch, parts[stretch.stage] ?? [], how));
  const ofStage = parts.map((_, stage) => costs.filter((cost) => cost.stage === stage));
  return {
    stageMs: ofStage.map((own) => sum(own.map(({ ms }) => ms))),
    ranks: ofStage.flatMap((own, stage) => ranksOf(own, parts[stage]?.length ?? 0)),
    sentBytes: Math.max(...ofStage.map((own) => sum(own.map(({ passed }) => passed)))),
  };
};
