/** Times operators and stretches of a model in ONNX Runtime, opened as a worker opens its segments. */

import { openSession, type Session, type SessionOptions } from '../../common/onnxruntime.js';
import type { Graph, Node } from '../graph/graph.js';
import { classOf, type Load, nodeMs, rateKey, wholeLoad } from '../plan/cost.js';
import { RATES } from '../plan/rates.js';
import type { OperatorClass } from '../rules/rule.js';
import { idleModel, type OperatorModel, operatorModel } from './operator-model.js';
import { type Sample, sampleOperators, sampleStretches } from './sample.js';

/** What an operator has to do. */
export interface Work extends Load {
  /** Absent where it takes no time to speak of. */
  readonly kind?: OperatorClass;
  /** `rateKey` */
  readonly key: string;
}

/** One operator, and how long it took. */
export interface Point extends Work {
  readonly kind: OperatorClass;
  readonly ms: number;
}

/** Consecutive operators, and how long they took together. */
export interface Stretch {
  readonly works: readonly Work[];
  readonly ms: number;
}

export interface Measured {
  readonly points: readonly Point[];
  readonly stretches: readonly Stretch[];
  /** Of one call of a session, beside its operators, in ms. */
  readonly callMs: number;
}

/** A device, as a session is opened on it. */
export type MeasuredDevice = Pick<SessionOptions, 'provider' | 'deviceId' | 'threads'>;

export interface MeasureOptions {
  readonly onProgress?: (done: number, total: number) => void;
  readonly signal?: AbortSignal;
}

/** Copies of an operator in a run: so many that a run takes about this long, in ms. */
const RUN_MS = 2;
const MOST_COPIES = 16;
/** Runs of each: until the budget is spent, but not fewer than this. The shortest counts: whatever else runs only adds. */
const LEAST_RUNS = 4;
const BUDGET_MS = 150;
/** No operator takes less, in ms: what comes out below is noise. */
const LEAST_MS = 0.0005;

/** More than a processor's caches hold, in bytes. */
const CACHES_BYTES = 96 * 1024 * 1024;

/** Time that this process has computed, in ms. */
const computedMs = (): number => {
  const { user, system } = process.cpuUsage();
  return (user + system) / 1000;
};

/**
 * Shortest time of a run, in ms. On one thread of the cpu that is the time it computed, where that is less than the time it
 * took: what it waited while other processes ran is not its own.
 * @param before each run, untimed
 */
const shortest = async (
  session: Session,
  { feeds }: OperatorModel,
  { provider, threads }: MeasuredDevice,
  before: () => void,
): Promise<number> => {
  const isAlone = provider === 'cpu' && threads === 1;
  await session.run(feeds);
  let best = Number.POSITIVE_INFINITY;
  const start = performance.now();
  for (let runs = 0; runs < LEAST_RUNS || performance.now() - start < BUDGET_MS; runs++) {
    before();
    const [begun, computed] = [performance.now(), computedMs()];
    await session.run(feeds);
    const took = performance.now() - begun;
    best = Math.min(best, isAlone ? Math.min(took, computedMs() - computed) : took);
  }
  return best;
};

const WITHOUT_PREPACKING = { 'session.disable_prepacking': '1' };

/** As it stands, so that a lonely operator is not optimised away. */
const AS_IT_STANDS = { optimization: 'disabled', entries: WITHOUT_PREPACKING } as const;
/** As `partition` optimises segments; equal nodes on equal inputs are not merged, for they are the point here. */
const OPTIMISED = {
  optimization: 'all',
  entries: WITHOUT_PREPACKING,
  disabledOptimizers: ['CommonSubexpressionElimination'],
} as const;

/** Shortest time of a run, in ms. */
const timeModel = async (
  model: OperatorModel,
  device: MeasuredDevice,
  how: typeof AS_IT_STANDS | typeof OPTIMISED,
  before: () => void = () => undefined,
): Promise<number> => {
  const session = await openSession(model.bytes, { ...device, ...how });
  try {
    return await shortest(session, model, device, before);
  } finally {
    await session.dispose();
  }
};

const workOf = (node: Node): Work => {
  const kind = classOf(node);
  return { ...(kind === undefined ? {} : { kind }), key: rateKey(node), ...wholeLoad(node) };
};

class Measuring {
  readonly #graph: Graph;
  readonly #device: MeasuredDevice;
  readonly #calls = new Map<number, number>();
  readonly #ballast = new Uint8Array(CACHES_BYTES);

  constructor(graph: Graph, device: MeasuredDevice) {
    this.#graph = graph;
    this.#device = device;
  }

  /** What a run takes without operators: the call, and giving out the first element of each copy's result. */
  async callMs(copies: number): Promise<number> {
    const { opsets, irVersion } = this.#graph;
    const known = this.#calls.get(copies);
    const ms = known ?? (await timeModel(idleModel(opsets, irVersion, copies), this.#device, AS_IT_STANDS));
    this.#calls.set(copies, ms);
    return ms;
  }

  async point({ kind, key, node }: Sample): Promise<Point> {
    const { opsets, irVersion } = this.#graph;
    const guess = nodeMs(node, RATES[this.#device.provider]);
    const copies = Math.max(1, Math.min(MOST_COPIES, Math.round(RUN_MS / guess)));
    const model = operatorModel([node], opsets, irVersion, copies);
    // A convolution is measured in the layout that ONNX Runtime brings it to.
    const run = await timeModel(model, this.#device, kind === 'conv' ? OPTIMISED : AS_IT_STANDS);
    const ms = Math.max(LEAST_MS, (run - (await this.callMs(copies))) / copies);
    return { kind, key, ...wholeLoad(node), ms };
  }

  async stretch(nodes: readonly Node[]): Promise<Stretch> {
    const { opsets, irVersion } = this.#graph;
    // In a step, a weight has left the caches since it was read in the step before.
    const forget = () => void this.#ballast.fill(this.#ballast[0] === 0 ? 1 : 0);
    const run = await timeModel(operatorModel(nodes, opsets, irVersion, 1), this.#device, OPTIMISED, forget);
    return { works: nodes.map(workOf), ms: Math.max(LEAST_MS, run - (await this.callMs(1))) };
  }
}

/**
 * Measures a model's operators on a device: some shapes of each, and some stretches of consecutive ones.
 * @throws the signal's reason when it aborts; what ONNX Runtime says where the device cannot run an operator
 */
export const measureGraph = async (
  graph: Graph,
  device: MeasuredDevice,
  { onProgress, signal }: MeasureOptions = {},
): Promise<Measured> => {
  const guess = RATES[device.provider];
  const samples = sampleOperators(graph, guess);
  const stretches = sampleStretches(graph, guess);
  const measuring = new Measuring(graph, device);
  const total = samples.length + stretches.length;
  const measured = { points: [] as Point[], stretches: [] as Stretch[] };
  const step = () => {
    signal?.throwIfAborted();
    onProgress?.(measured.points.length + measured.stretches.length, total);
  };
  for (const sample of samples) {
    step();
    measured.points.push(await measuring.point(sample));
  }
  for (const nodes of stretches) {
    step();
    measured.stretches.push(await measuring.stretch(nodes));
  }
  step();
  return { ...measured, callMs: await measuring.callMs(1) };
};
