/**
 * Where a model is cut for a pipeline: the work of a step and the bytes of the weights are shared out among the stages, and little is
 * sent where the cuts are. One cut cannot share out two things at once: a UNet's work lies at its ends and its weights in the middle.
 * Two cuts can, where one stage has the middle and the other has both ends (the necklace theorem of Goldberg and West), so a
 * stage may have several stretches.
 */
import type { Node, Value } from '../graph/graph.js';
import type { Stretch } from '../graph/stretch.js';
import { valueBytes } from '../plan/cost.js';

/** A place between two nodes, or an end. */
interface Position {
  /** How many nodes come before. */
  readonly at: number;
  /** Share of the work and of the weights before it, 0 to 1. */
  readonly work: number;
  readonly weights: number;
  /** Share of the work that it takes to send what crosses. */
  readonly crossing: number;
}

export interface StageStretch extends Stretch {
  /** Which stage runs it. */
  readonly stage: number;
}

export interface CutOptions {
  readonly nodes: readonly Node[];
  /** Cost of a node and of sending bytes through the coordinator, both in ms. */
  readonly nodeMs: (node: Node) => number;
  readonly sendMs: (bytes: number) => number;
  /** Relative speeds of the stages. */
  readonly speeds: readonly number[];
}

const sum = (numbers: readonly number[]): number => numbers.reduce((total, number) => total + number, 0);

/** Bytes of what is made before each place and read after it; infinite where a shape is not known. */
const crossingBytes = (nodes: readonly Node[]): readonly number[] => {
  const changes = new Array<number>(nodes.length + 1).fill(0);
  const madeAt = new Map<Value, number>();
  const lastRead = new Map<Value, number>();
  for (const [place, { inputs, outputs }] of nodes.entries()) {
    for (const input of inputs) if (input && madeAt.has(input)) lastRead.set(input, place);
    for (const output of outputs) if (output) madeAt.set(output, place);
  }
  const unknown = new Array<number>(nodes.length + 1).fill(0);
  for (const [value, last] of lastRead) {
    const first = (madeAt.get(value) ?? 0) + 1;
    const counts = value.shape === undefined ? unknown : changes;
    const bytes = value.shape === undefined ? 1 : valueBytes(value);
    counts[first] = (counts[first] ?? 0) + bytes;
    counts[last + 1] = (counts[last + 1] ?? 0) - bytes;
  }
  let [bytes, open] = [0, 0];
  return changes.map((change, place) => {
    bytes += change;
    open += unknown[place] ?? 0;
    return open > 0 ? Number.POSITIVE_INFINITY : bytes;
  });
};

const weightBytes = (node: Node, seen: Set<Value>): number =>
  sum(
    node.inputs.map((value) => {
      if (value?.constant === undefined || seen.has(value)) return 0;
      seen.add(value);
      return valueBytes(value);
    }),
  );

/** Shares before each place between nodes. */
const positionsOf = ({ nodes, nodeMs, sendMs }: CutOptions): readonly Position[] => {
  const crossing = crossingBytes(nodes);
  const seen = new Set<Value>();
  const costs = nodes.map((node) => [nodeMs(node), weightBytes(node, seen)] as const);
  const work = Math.max(Number.MIN_VALUE, sum(costs.map(([ms]) => ms)));
  const weights = Math.max(1, sum(costs.map(([, bytes]) => bytes)));
  const positions: Position[] = [{ at: 0, work: 0, weights: 0, crossing: 0 }];
  let [ms, bytes] = [0, 0];
  for (const [place, [nodeCost, held]] of costs.entries()) {
    ms += nodeCost;
    bytes += held;
    const sent = sendMs(crossing[place + 1] ?? 0) / work;
    positions.push({ at: place + 1, work: ms / work, weights: bytes / weights, crossing: sent });
  }
  return positions;
};

/** Places that are looked at: the cheapest of each equal part of the work and of the weights. */
const PARTS = 160;

const candidatesOf = (positions: readonly Position[]): readonly Position[] => {
  const best = new Map<string, Position>();
  for (const position of positions.slice(1, -1)) {
    if (position.crossing === Number.POSITIVE_INFINITY) continue;
    for (const [kind, share] of [
      ['work', position.work],
      ['weights', position.weights],
    ] as const) {
      const key = `${kind} ${Math.floor(share * PARTS)}`;
      const known = best.get(key);
      if (known === undefined || position.crossing < known.crossing) best.set(key, position);
    }
  }
  return [...new Set(best.values())].sort((a, b) => a.at - b.at);
};

/** A stage may hold so much more than its share of the weights before that counts as much as its work. */
const WEIGHTS_SLACK = 1.08;
/** What a further cut must gain: each one is a way to the coordinator and back. */
const CUT_COST = 0.02;

/** Work and weights of one side of a cut, against its fair share of both: 1 is fair. */
const unfairness = (work: number, weights: number, share: number): number =>
  Math.max(work / share, (1 - work) / (1 - share)) +
  Math.max(0, Math.max(weights / share, (1 - weights) / (1 - share)) - WEIGHTS_SLACK);

interface Halves {
  readonly cost: number;
  readonly inner: readonly [Position, Position];
}

/** The stretch from one place to another as one side's, the rest as the other's. */
const judge = (from: Position, to: Position, share: number): number => {
  const sent = (from.at === 0 ? 0 : from.crossing + CUT_COST) + to.crossing + CUT_COST;
  return unfairness(to.work - from.work, to.weights - from.weights, share) + sent;
};

/** @param share of the side that gets the stretch; the other one gets what is left, before and after it */
const halve = (positions: readonly Position[], share: number): Halves | undefined => {
  const [start] = positions;
  if (start === undefined) return undefined;
  const places = candidatesOf(positions);
  const froms = [start, ...places];
  let best: Halves | undefined;
  for (const from of froms)
    for (const to of places) {
      if (to.at <= from.at) continue;
      const cost = judge(from, to, share);
      if (best === undefined || cost < best.cost) best = { cost, inner: [from, to] };
    }
  return best;
};

type Stages = readonly { readonly stage: number; readonly nodes: readonly Node[] }[];

/** Shares a sequence of nodes out among stages: halves them until each has one. */
const shareOut = (nodes: readonly Node[], stages: readonly number[], options: CutOptions): Stages | undefined => {
  const [first = 0] = stages;
  if (stages.length === 1) return [{ stage: first, nodes }];
  const middle = Math.ceil(stages.length / 2);
  const [ones, others] = [stages.slice(0, middle), stages.slice(middle)];
  const speed = (of: readonly number[]) => sum(of.map((stage) => options.speeds[stage] ?? 1));
  const found = halve(positionsOf({ ...options, nodes }), speed(ones) / speed(stages));
  if (found === undefined) return undefined;
  const [from, to] = found.inner;
  const inner = shareOut(nodes.slice(from.at, to.at), ones, options);
  const outer = shareOut([...nodes.slice(0, from.at), ...nodes.slice(to.at)], others, options);
  return inner && outer && [...inner, ...outer];
};

/** Consecutive nodes of the same stage become a stretch. */
const stretchesOf = (nodes: readonly Node[], stages: Stages): readonly StageStretch[] => {
  const stageOf = new Map(stages.flatMap(({ stage, nodes: own }) => own.map((node) => [node, stage] as const)));
  const stretches: StageStretch[] = [];
  for (const [place, node] of nodes.entries()) {
    const stage = stageOf.get(node) ?? 0;
    const last = stretches.at(-1);
    if (last?.stage === stage) stretches[stretches.length - 1] = { ...last, to: place + 1 };
    else stretches.push({ stage, from: place, to: place + 1 });
  }
  return stretches;
};

/**
 * @returns each stage's stretches, in the order in which they run; undefined where the nodes are too few, or what would cross has no
 *   known size
 */
export const cutStages = (options: CutOptions): readonly StageStretch[] | undefined => {
  const stages = options.speeds.map((_, stage) => stage);
  const shared = shareOut(options.nodes, stages, options);
  return shared && stretchesOf(options.nodes, shared);
};
