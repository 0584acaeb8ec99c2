/**
 * Decides a graph's split for given devices: placements, plan, cut and programs. Work is divided by speed; where a rank's
 * memory is too small for its share, it gets less and the others more.
 */

import { TandemError } from '../../common/errors.js';
import type { Graph, Node } from '../graph/graph.js';
import type { Scope } from '../graph/scopes.js';
import { type ChooseOptions, choose, type WireDtype } from '../plan/choose.js';
import { nodeMs, oversizedOperands } from '../plan/cost.js';
import { cut } from '../plan/cut.js';
import { bufferLimitOf, type DeviceSpec } from '../plan/device.js';
import { withMoments } from '../plan/moments.js';
import { ratesOf } from '../plan/rates.js';
import { place } from '../plan/states.js';
import type { Split } from '../request.js';
import { emitRank } from '../segments/emit.js';
import { fuseAttention } from '../segments/fuse-attention.js';
import { type Program, withGraphs } from '../segments/rank-program.js';
import { type Decided, makeReport } from './report.js';

export interface DecideOptions {
  /** One per rank. */
  readonly devices: readonly DeviceSpec[];
  readonly wire: WireDtype;
  readonly split: Split;
  readonly scopes: ReadonlyMap<Node, Scope>;
  /** Last changes to the ranks' programs; index is the rank. */
  readonly finish: (programs: readonly Program[]) => readonly Program[];
  readonly onStage?: (stage: 'place' | 'choose' | 'emit') => void;
}

/** Relative speeds: as given, else what the whole model would take on each device alone. */
const speedsOf = (graph: Graph, devices: readonly DeviceSpec[]): readonly number[] =>
  devices.every(({ speed, rates }) => speed === undefined && rates !== undefined)
    ? devices.map(ratesOf).map((rates) => 1 / graph.nodes.reduce((sum, node) => sum + nodeMs(node, rates), 0))
    : devices.map(({ speed }) => speed ?? 1);

const GOALS: Readonly<Record<Split, NonNullable<ChooseOptions['goal']>>> = {
  tensor: 'memory',
  batch: 'time',
  tokens: 'work',
};

/** @param shares of the ranks; only their ratios count */
const decideShares = (model: Graph, shares: readonly number[], options: DecideOptions): Decided => {
  const { devices, wire: wireDtype, split, scopes, finish, onStage } = options;
  onStage?.('place');
  const graph = split === 'tokens' && devices.length > 1 ? withMoments(model) : model;
  const placements = place(graph, { speeds: shares, providers: devices.map(({ provider }) => provider) }, split);
  onStage?.('choose');
  const bufferLimits = devices.map(bufferLimitOf);
  const plan = choose(graph, placements, { rates: devices.map(ratesOf), wireDtype, bufferLimits, goal: GOALS[split] });
  onStage?.('emit');
  const sections = cut(graph, plan);
  const emitted = devices.map(({ provider }, rank) => {
    const program = emitRank(graph, plan, sections, rank, { worldSize: devices.length, wireDtype, provider });
    return provider === 'cpu' ? withGraphs(program, fuseAttention) : program;
  });
  return { model, graph, scopes, plan, cut: sections, programs: finish(emitted), devices, wireDtype };
};

/** What a rank needs, and how much of that goes with its share. */
interface Need {
  readonly rank: number;
  readonly device: string;
  readonly bytes: number;
  readonly movable: number;
  readonly limit: number;
}

const needsOf = (decided: Decided): readonly Need[] => {
  const report = makeReport(decided);
  return report.ranks.map(({ rank, device, weight_bytes, activation_peak_bytes, memory_limit_bytes }) => {
    const shares = report.ranks.reduce((sum, one) => sum + one.weight_bytes, 0);
    // What all ranks hold twice is not theirs to give away.
    const whole = (shares * (1 - report.sharded_weight_fraction)) / report.world_size;
    return {
      rank,
      device,
      bytes: weight_bytes + activation_peak_bytes,
      movable: Math.max(0, weight_bytes - whole),
      limit: memory_limit_bytes ?? Number.POSITIVE_INFINITY,
    };
  });
};

const isTooLarge = ({ bytes, limit }: Need): boolean => bytes > limit;

const sum = (numbers: readonly number[]): number => numbers.reduce((total, number) => total + number, 0);

/** Shares in proportion to the speeds, none above its cap; undefined where the caps leave something over. */
export const shareOut = (speeds: readonly number[], caps: readonly number[]): readonly number[] | undefined => {
  if (sum(caps) < 1) return undefined;
  const shares = speeds.map(() => 0);
  const open = new Set(speeds.keys());
  for (let rest = 1; open.size > 0; ) {
    const total = sum([...open].map((rank) => speeds[rank] ?? 0));
    const wish = (rank: number) => (rest * (speeds[rank] ?? 0)) / total;
    const full = [...open].filter((rank) => wish(rank) >= (caps[rank] ?? 1));
    if (full.length === 0) {
      for (const rank of open) shares[rank] = wish(rank);
      break;
    }
    for (const rank of full) {
      shares[rank] = caps[rank] ?? 1;
      rest -= shares[rank];
      open.delete(rank);
    }
  }
  return shares;
};

/** Further plans that are tried where ranks are too small for their shares. */
const ATTEMPTS = 5;
/** Shares come in whole heads and groups, so a rank may get a little more than was meant for it. */
const MARGIN = 0.97;

const mebibytes = (bytes: number): string => `${(bytes / 2 ** 20).toFixed(0)} MiB`;

const tooLarge = (needs: readonly Need[]): TandemError =>
  new TandemError(
    'PLAN_MEMORY',
    'The model does not fit the devices, however it is shared out. Add devices, or raise memory_limit:',
    {
      problems: needs
        .filter(isTooLarge)
        .map(
          ({ rank, device, bytes, limit }) =>
            `rank ${rank} (${device}) needs ${mebibytes(bytes)} for weights and activations and may use ${mebibytes(limit)}`,
        ),
    },
  );

/** Tensors of which a rank's part is larger than its device takes, each named once. */
export const oversized = ({ cut, plan, devices }: Decided): readonly string[] => {
  const found = [...cut.segmentOf.keys()].flatMap((node) =>
    devices.flatMap((device, rank) => {
      const [limit, row] = [bufferLimitOf(device), plan.rows.get(node)];
      const operands = row ? oversizedOperands(node, row, rank, limit) : [];
      return operands.map(
        ({ value, bytes }) =>
          `"${value.name}" (${value.dtype} [${value.shape?.join(', ')}]) takes ${mebibytes(bytes)} of rank ${rank}, and its device (${device.provider}) takes tensors of at most ${mebibytes(limit)}`,
      );
    }),
  );
  return [...new Set(found)];
};

/** @throws TandemError PLAN_BUFFER */
const checkOversized = (decided: Decided): Decided => {
  const problems = oversized(decided);
  if (problems.length === 0) return decided;
  throw new TandemError(
    'PLAN_BUFFER',
    'Some tensors are larger than the devices take, and no rule splits them. Make smaller pictures, use more devices, or raise buffer_limit if it is lower than the device says:',
    { problems },
  );
};

/**
 * Decides everything about a graph.
 * @throws TandemError PLAN_BUFFER where a device does not take a tensor; PLAN_MEMORY where no way to share the model out respects the ranks' limits; as `choose` does
 */
export const decide = (graph: Graph, options: DecideOptions): Decided => {
  const speeds = speedsOf(graph, options.devices);
  const caps = speeds.map(() => 1);
  let shares: readonly number[] = speeds.map((speed) => speed / sum(speeds));
  let needs: readonly Need[] = [];
  for (let attempt = 0; attempt <= ATTEMPTS; attempt++) {
    const decided = decideShares(graph, shares, options);
    needs = needsOf(decided);
    if (!needs.some(isTooLarge)) return checkOversized(decided);
    for (const { rank, bytes, movable, limit } of needs.filter(isTooLarge)) {
      const kept = movable === 0 ? 0 : Math.max(0, 1 - (bytes - limit) / movable);
      caps[rank] = Math.min(caps[rank] ?? 1, (shares[rank] ?? 0) * kept * MARGIN);
    }
    const next = options.split === 'tensor' ? shareOut(speeds, caps) : undefined;
    if (!next || caps.some((cap) => cap === 0)) break;
    shares = next;
  }
  throw tooLarge(needs);
};
