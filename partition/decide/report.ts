/** What `tandem plan` says of a plan; the JSON keys are a contract. */

import type { DType } from '../../common/tensor.js';
import { type CollectiveKind, sentElements } from '../graph/collective.js';
import type { Graph, Node } from '../graph/graph.js';
import type { Scope } from '../graph/scopes.js';
import { type Plan, shardedShares, type WireDtype, wireElementBytes, wireType } from '../plan/choose.js';
import { collectiveMs, nodeFlops, nodeMs, rankMs, workShare } from '../plan/cost.js';
import type { Cut } from '../plan/cut.js';
import type { DeviceSpec } from '../plan/device.js';
import { type Rates, ratesOf } from '../plan/rates.js';
import { findConstants, whyWhole } from '../plan/states.js';
import { operatorKey } from '../rules/index.js';
import { type Program, peakBytes, sentBytes, weightBytes } from '../segments/rank-program.js';
import { makeBlocks, type PlanBlock } from './blocks.js';

/** What is said of one plan. */
export interface MadeReport {
  readonly world_size: number;
  readonly ranks: readonly {
    readonly rank: number;
    readonly device: string;
    readonly weight_bytes: number;
    readonly activation_peak_bytes: number;
    /** Absent where the device has none. */
    readonly memory_limit_bytes?: number;
    /** Share of the model's floating-point operations that this rank runs, 0 to 1. */
    readonly flop_fraction: number;
  }[];
  /** Share of the model's weight bytes that are in parts, 0 to 1: of heads that ranks share, one of them may have all. */
  readonly sharded_weight_fraction: number;
  readonly sharded_flop_fraction: number;
  /** Segments of a rank's program. */
  readonly segments: number;
  /** A reduce-scatter and an all-gather of the same tensor are an all-reduce in two. */
  readonly collectives: readonly {
    readonly kind: CollectiveKind;
    readonly tensor: string;
    readonly shape: readonly number[];
    readonly dtype: DType;
    /** Bytes that the slowest rank sends. */
    readonly bytes: number;
  }[];
  readonly collective_count: number;
  /** Bytes that the rank with the most to send sends. */
  readonly wire_bytes_per_step: number;
  /** Nodes that every rank runs whole, by descending share of the operations; those without operations are left out. */
  readonly replicated: readonly {
    readonly node: string;
    readonly op: string;
    readonly reason: string;
    readonly flop_fraction: number;
  }[];
  /** The network's modules in the order in which they run. */
  readonly blocks: readonly PlanBlock[];
  readonly predicted: {
    /** The whole model on the fastest device. */
    readonly single_step_ms: number;
    readonly step_ms: number;
    readonly speedup: number;
    /** Of `step_ms`: the slowest rank's operators and segments. */
    readonly compute_ms: number;
    /** Of `step_ms`. */
    readonly exchange_ms: number;
    /** Whether the devices' rates were measured (`tandem plan --calibrate`) or are typical ones. */
    readonly calibrated: boolean;
  };
}

/** Everything that was decided, in one place. */
export interface Decided {
  /** As it was given. */
  readonly model: Graph;
  /** What was planned: the same, with norms in their parts where rows are split. */
  readonly graph: Graph;
  readonly scopes: ReadonlyMap<Node, Scope>;
  readonly plan: Plan;
  readonly cut: Cut;
  /** Index is the rank. */
  readonly programs: readonly Program[];
  readonly devices: readonly DeviceSpec[];
  readonly wireDtype: WireDtype;
}

const isWhole = (node: Node, plan: Plan): boolean => {
  const row = plan.rows.get(node);
  return !row || [...row.inputs, ...row.outputs].every(({ kind }) => kind !== 'shard');
};

const runNodes = ({ graph, cut }: Decided): readonly Node[] => graph.nodes.filter((node) => cut.segmentOf.has(node));

const withoutConstants = (graph: Graph): readonly Node[] => {
  const constants = findConstants(graph);
  return graph.nodes.filter(({ outputs }) => !outputs.every((output) => !output || constants.has(output)));
};

const sum = (numbers: readonly number[]): number => numbers.reduce((total, number) => total + number, 0);

const flopsOfRank = (decided: Decided, rank: number): number =>
  sum(
    runNodes(decided).map((node) => {
      const row = decided.plan.rows.get(node);
      return nodeFlops(node) * (row ? workShare(node, row, rank) : 1);
    }),
  );

const collectiveRows = ({ cut, devices, wireDtype }: Decided): MadeReport['collectives'] =>
  [...cut.collectives]
    .sort((a, b) => a.after - b.after)
    .map((collective) => {
      const { kind, value } = collective;
      const shape = value.shape ?? [];
      const dtype = wireDtype === 'int8' && value.dtype.startsWith('float') ? 'int8' : wireType(value.dtype, wireDtype);
      const sent = Math.max(...devices.map((_, rank) => sentElements(shape, collective, rank, devices.length)));
      return { kind, tensor: value.name, shape, dtype, bytes: sent * wireElementBytes(value.dtype, wireDtype) };
    });

const replicatedRows = (decided: Decided, total: number): MadeReport['replicated'] =>
  runNodes(decided)
    .filter((node) => isWhole(node, decided.plan))
    .map((node) => ({
      node: node.name,
      op: operatorKey(node),
      reason: whyWhole(node, decided.plan.placements.rows.get(node) ?? []),
      flop_fraction: nodeFlops(node) / Math.max(1, total),
    }))
    .filter(({ flop_fraction, reason }) => flop_fraction > 0 || /^(no rule|its sizes depend)/.test(reason))
    .sort((a, b) => b.flop_fraction - a.flop_fraction);

/** Time that a rank computes in a step, sums of what arrives and the like included. */
const computeMs = (decided: Decided, rank: number, rates: Rates): number => {
  const { plan, cut, devices } = decided;
  const nodes = runNodes(decided).map((node) => {
    const row = plan.rows.get(node);
    return row ? rankMs(node, row, rank, rates) : nodeMs(node, rates);
  });
  const collectives = cut.collectives.map((one) => collectiveMs(one.value, one, rank, rates, devices.length));
  return sum(nodes) + sum(collectives);
};

const slowest = (devices: readonly DeviceSpec[], ms: (rates: Rates, rank: number) => number): number =>
  Math.max(...devices.map((device, rank) => ms(ratesOf(device), rank)));

const predict = (decided: Decided): MadeReport['predicted'] => {
  const { devices, programs, cut } = decided;
  const nodes = withoutConstants(decided.model);
  const whole = devices
    .map(ratesOf)
    .map((rates) => sum(nodes.map((node) => nodeMs(node, rates))) + rates.segmentMs + rates.stepMs);
  const single = Math.min(...whole);
  const segments = programs[0]?.segments.length ?? 1;
  const compute = slowest(devices, (rates, rank) => computeMs(decided, rank, rates) + segments * rates.segmentMs);
  const exchange = (cut.segmentCount - 1) * slowest(devices, ({ latencyMs }) => latencyMs);
  const sent = programs.map(sentBytes);
  const wire = slowest(devices, ({ wireBytesPerMs }, rank) => (sent[rank] ?? 0) / wireBytesPerMs);
  const control = slowest(devices, ({ stepMs }) => stepMs);
  const step = compute + exchange + wire + control;
  return {
    single_step_ms: single,
    step_ms: step,
    speedup: single / step,
    compute_ms: compute,
    exchange_ms: exchange + wire,
    calibrated: devices.every(({ rates }) => rates !== undefined),
  };
};

export const makeReport = (decided: Decided): MadeReport => {
  const { graph, plan, programs, devices } = decided;
  const shares = shardedShares(graph, plan);
  const total = sum(runNodes(decided).map(nodeFlops));
  const collectives = collectiveRows(decided);
  const [weights, peaks] = [programs.map(weightBytes), programs.map(peakBytes)];
  return {
    world_size: devices.length,
    ranks: devices.map(({ provider, deviceId, memoryLimit }, rank) => ({
      rank,
      device: `${provider}:${deviceId}`,
      weight_bytes: weights[rank] ?? 0,
      activation_peak_bytes: peaks[rank] ?? 0,
      ...(memoryLimit === undefined ? {} : { memory_limit_bytes: memoryLimit }),
      flop_fraction: flopsOfRank(decided, rank) / Math.max(1, total),
    })),
    sharded_weight_fraction: devices.length > 1 ? shares.weights : 0,
    sharded_flop_fraction: devices.length > 1 ? shares.flops : 0,
    segments: programs[0]?.segments.length ?? 0,
    collectives,
    collective_count: collectives.length,
    wire_bytes_per_step: Math.max(...programs.map(sentBytes)),
    replicated: devices.length > 1 ? replicatedRows(decided, total) : [],
    blocks: makeBlocks(decided),
    predicted: predict(decided),
  };
};
