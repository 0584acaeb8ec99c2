/**
 * Chooses a row for every node and a conversion for every tensor such that all fit together and the whole costs least.
 * The choice is a sum of tables over two kinds of variables, nodes (their rows) and tensors (how they are made and what
 * collectives make of them), which the exact solver minimises.
 */

import { DTYPES, type DType } from '../../common/tensor.js';
import { findConversions, findForm, formsOf, sentElements, type TensorState } from '../graph/collective.js';
import { findUses, type Graph, type Node, type Value } from '../graph/graph.js';
import {
  isOverlapping,
  type Placement,
  placementKey,
  REPLICATE,
  type Shard,
  samePlacement,
} from '../graph/placement.js';
import type { Row } from '../rules/rule.js';
import { type CostGraph, minimise, type PairCost } from '../solve/eliminate.js';
import type { WireDtype } from '../write/manifest.js';
import { collectiveMs, copyMs, heldBytes, nodeFlops, nodeMs, oversizedOperands, rankMs, valueBytes } from './cost.js';
import type { Rates } from './rates.js';
import { findConstants, type Placements } from './states.js';

export type { WireDtype };

export interface Plan {
  readonly rows: ReadonlyMap<Node, Row>;
  readonly tensors: ReadonlyMap<Value, TensorState>;
  readonly placements: Placements;
}

export interface ChooseOptions {
  /** Index is the rank. */
  readonly rates: readonly Rates[];
  readonly wireDtype: WireDtype;
  /** Bytes of the largest tensor that each rank's device takes; none where absent. */
  readonly bufferLimits?: readonly number[];
  /**
   * `memory`: each rank is to hold a part of the weights, at the price of exchanges. `work`: each is to do a part of the work, whoever
   * holds what. `time`: the shortest step. `memory` where absent.
   */
  readonly goal?: 'memory' | 'work' | 'time';
}

/**
 * Two prices stand beside the time that a plan takes. A plan is asked for in order to hold a part of the model per device:
 * keeping all weights whole costs as much as this many steps.
 */
const WHOLE_WEIGHTS_PRICE = 1;
/**
 * And an exchange costs more than its bytes: it tears operators apart that would be fused, copies tensors out of a session and
 * into the next, and makes all ranks wait for the last. As a share of a whole step, so that a small model is split like a large one.
 */
const EXCHANGE_PRICE = 0.002;
/** A tensor that a device does not take costs more than anything else, so that it is split wherever a rule allows it. */
const OVERSIZED_PRICE = 1e9;
/**
 * The share of weights and of operations that is to be split. What is left whole is given a price, all of it together as many steps,
 * which grows by a factor until so much is split: the splits that are found so are those that cost least.
 */
const WANTED_SHARE = 0.95;
const LEAST_WHOLE_PRICE = 0.05;
const WHOLE_PRICE_FACTOR = 1.5;
const WHOLE_PRICE_STEPS = 20;
/** The share where only the work is split: that is done for the time's sake, so the rest may stay whole where that is faster. */
const WANTED_WORK = 0.5;

/**
 * Element type on the wire, as segments are emitted: `fp16` makes single precision travel as half precision, and leaves the others as
 * they are; `int8` is made of what is emitted (`segments/int8-wire.ts`).
 */
export const wireType = (dtype: DType, wireDtype: WireDtype): DType =>
  wireDtype === 'fp16' && dtype === 'float32' ? 'float16' : dtype;

/** With a scale for a row of 64 and more. */
const INT8_BYTES = 1 + 4 / 64;

export const wireElementBytes = (dtype: DType, wireDtype: WireDtype): number =>
  wireDtype === 'int8' && dtype.startsWith('float') ? INT8_BYTES : DTYPES[wireType(dtype, wireDtype)].bytes;

interface Prices {
  readonly perWeightByte: number;
  /** Of a tensor that is exchanged, beside the time that its bytes take. */
  readonly perExchange: number;
  /** Of a byte of weights, and of an operation, that is left whole, where leaving all of it whole costs one step. */
  readonly perWholeByte: number;
  readonly perWholeFlop: number;
}

/** Whether a rank does only its part of a node. */
const isInParts = ({ inputs, outputs }: Row): boolean => [...inputs, ...outputs].some(({ kind }) => kind === 'shard');

class PlanProblem {
  readonly #graph: Graph;
  readonly #placements: Placements;
  readonly #options: ChooseOptions;
  readonly #prices: Prices;
  readonly #states = new Map<Value, readonly TensorState[]>();
  readonly #index = new Map<Node | Value, number>();
  readonly #domains: number[] = [];
  readonly #unary: Float64Array[] = [];
  /** Of nodes: what each row leaves whole, which costs more or less by what is wanted. */
  readonly #whole: Float64Array[] = [];
  readonly #pairs: PairCost[] = [];

  constructor(graph: Graph, placements: Placements, options: ChooseOptions, prices: Prices) {
    this.#graph = graph;
    this.#placements = placements;
    this.#options = options;
    this.#prices = prices;
    this.#findStates();
    for (const node of graph.nodes) this.#addNode(node);
    for (const [value, states] of this.#states)
      this.#add(
        value,
        states.map((state) => this.#stateCost(value, state)),
      );
    for (const node of graph.nodes) this.#addPairs(node);
  }

  /** @param wholePrice what leaving all weights and all work whole costs, in steps, beside what it takes */
  costs(wholePrice: number): CostGraph {
    // Nodes come before tensors.
    const unary = this.#unary.map((costs, i) => {
      const whole = this.#whole[i];
      return whole && wholePrice > 0 ? costs.map((cost, row) => cost + wholePrice * (whole[row] ?? 0)) : costs;
    });
    return { domains: this.#domains, unary, pairs: this.#pairs };
  }

  /** @param wholePrice as `costs` has it */
  solve(wholePrice: number): Plan {
    const { choice } = minimise(this.costs(wholePrice));
    const chosen = <T>(key: Node | Value, options: readonly T[]): T => {
      const option = options[choice[this.#index.get(key) ?? 0] ?? 0];
      if (option === undefined) throw new RangeError('The solver chose a state that does not exist.');
      return option;
    };
    return {
      rows: new Map(this.#graph.nodes.map((node) => [node, chosen(node, this.#rows(node))])),
      tensors: new Map([...this.#states].map(([value, states]) => [value, chosen(value, states)])),
      placements: this.#placements,
    };
  }

  #rows(node: Node): readonly Row[] {
    return this.#placements.rows.get(node) ?? [];
  }

  get #worldSize(): number {
    return this.#options.rates.length;
  }

  /** Made as one of its producer's rows says, and left so or converted; an output of the model ends whole. */
  #findStates(): void {
    const made = new Map<Value, Map<string, Placement>>();
    const note = (value: Value | undefined, placement: Placement) => {
      if (!value || value.constant) return;
      const known = made.get(value) ?? new Map<string, Placement>();
      made.set(value, known.set(placementKey(placement), placement));
    };
    for (const input of this.#graph.inputs) note(input, REPLICATE);
    for (const node of this.#graph.nodes) {
      for (const row of this.#rows(node)) {
        for (const [i, output] of node.outputs.entries()) note(output, row.outputs[i] ?? REPLICATE);
      }
    }
    const outputs = new Set(this.#graph.outputs);
    const { consumers } = findUses(this.#graph);
    for (const [value, placements] of made) {
      const wanted = this.#wantedShards(value, consumers.get(value) ?? []);
      const states = [...placements.values()].flatMap((placement) => this.#waysFrom(value, placement, wanted));
      const isAllowed = (state: TensorState) => !outputs.has(value) || formsOf(state).at(-1)?.kind === 'replicate';
      this.#states.set(value, states.filter(isAllowed));
    }
  }

  #waysFrom(value: Value, made: Placement, wanted: readonly Shard[]): readonly TensorState[] {
    if (!value.shape || this.#placements.constants.has(value)) return [{ made, conversions: [] }];
    const ways = findConversions(made, value.shape, wanted, this.#worldSize, this.#options.goal === 'work');
    return ways.map((conversions) => ({ made, conversions }));
  }

  #wantedShards(value: Value, consumers: readonly Node[]): readonly Shard[] {
    const shards = new Map<string, Shard>();
    for (const node of consumers) {
      for (const { inputs } of this.#rows(node)) {
        for (const [i, wanted] of inputs.entries())
          if (node.inputs[i] === value && wanted.kind === 'shard' && (wanted.halo || !isOverlapping(wanted)))
            shards.set(placementKey(wanted), wanted);
      }
    }
    return [...shards.values()];
  }

  #add(key: Node | Value, costs: readonly number[]): void {
    this.#index.set(key, this.#domains.length);
    this.#domains.push(costs.length);
    this.#unary.push(Float64Array.from(costs));
  }

  #addNode(node: Node): void {
    const isConstant = node.outputs.every((output) => !output || this.#placements.constants.has(output));
    const slowest = (row: Row) => Math.max(...this.#options.rates.map((rates, rank) => rankMs(node, row, rank, rates)));
    this.#add(
      node,
      this.#rows(node).map(
        (row) => (isConstant ? 0 : slowest(row) + this.#oversizedCost(node, row)) + this.#weightCost(node, row),
      ),
    );
    const work = isConstant ? 0 : nodeFlops(node) * this.#prices.perWholeFlop;
    const whole = this.#rows(node).map((row) => (isInParts(row) ? 0 : work) + this.#wholeWeightCost(node, row));
    this.#whole.push(Float64Array.from(whole));
  }

  #wholeWeightCost(node: Node, row: Row): number {
    return node.inputs.reduce((sum, value, i) => {
      if (value?.constant?.kind !== 'weight' || row.inputs[i]?.kind === 'shard') return sum;
      return sum + valueBytes(value) * this.#prices.perWholeByte;
    }, 0);
  }

  #oversizedCost(node: Node, row: Row): number {
    const limits = this.#options.bufferLimits ?? [];
    const count = limits.reduce((sum, limit, rank) => sum + oversizedOperands(node, row, rank, limit).length, 0);
    return count * OVERSIZED_PRICE;
  }

  #weightCost(node: Node, row: Row): number {
    return node.inputs.reduce((sum, value, i) => {
      if (!value?.constant) return sum;
      return sum + heldBytes(value, row.inputs[i] ?? REPLICATE, this.#worldSize) * this.#prices.perWeightByte;
    }, 0);
  }

  /**
   * A tensor that is exchanged twice in a row costs the second time what that takes: it tears nothing apart that the first time
   * has not.
   */
  #stateCost(value: Value, { conversions }: TensorState): number {
    const { shape } = value;
    if (!shape || conversions.length === 0) return 0;
    const elementBytes = wireElementBytes(value.dtype, this.#options.wireDtype);
    const times = this.#options.rates.map((rates, rank) =>
      conversions.reduce((sum, conversion) => {
        const sent = sentElements(shape, conversion, rank, this.#worldSize) * elementBytes;
        return sum + sent / rates.wireBytesPerMs + collectiveMs(value, conversion, rank, rates, this.#worldSize);
      }, 0),
    );
    const again = (conversions.length - 1) * roundMs(this.#options.rates);
    return this.#prices.perExchange + again + Math.max(...times);
  }

  #addPairs(node: Node): void {
    const rows = this.#rows(node);
    const a = this.#index.get(node) ?? 0;
    const addPair = (value: Value, cost: (row: Row, state: TensorState) => number) => {
      const states = this.#states.get(value) ?? [];
      const table = Float64Array.from(rows.flatMap((row) => states.map((state) => cost(row, state))));
      this.#pairs.push({ a, b: this.#index.get(value) ?? 0, cost: table });
    };
    node.outputs.forEach((output, i) => {
      if (!output) return;
      const made = rows.map((row) => placementKey(row.outputs[i] ?? REPLICATE));
      addPair(output, (row, state) =>
        made[rows.indexOf(row)] === placementKey(state.made) ? 0 : Number.POSITIVE_INFINITY,
      );
    });
    node.inputs.forEach((input, i) => {
      if (!input || input.constant) return;
      addPair(input, (row, state) => this.#useCost(input, row.inputs[i] ?? REPLICATE, state));
    });
  }

  /** Slicing a whole tensor costs a copy; a placement that the tensor has in no form is forbidden. */
  #useCost(value: Value, wanted: Placement, state: TensorState): number {
    const form = formsOf(state)[findForm(state, wanted) ?? -1];
    if (!form) return Number.POSITIVE_INFINITY;
    if (samePlacement(form, wanted)) return 0;
    const bytes = heldBytes(value, wanted, this.#worldSize);
    return Math.max(...this.#options.rates.map((rates) => copyMs(bytes, rates)));
  }
}

export interface Shares {
  readonly weights: number;
  readonly flops: number;
}

/** Shares of weight bytes and of floating-point operations that are in parts, which may overlap. */
export const shardedShares = (graph: Graph, plan: Plan): Shares => {
  const constants = plan.placements.constants;
  let [flops, splitFlops] = [0, 0];
  const weights = new Map<Value, boolean>();
  for (const node of graph.nodes) {
    const row = plan.rows.get(node);
    const split = row !== undefined && isInParts(row);
    if (!node.outputs.every((output) => !output || constants.has(output))) {
      flops += nodeFlops(node);
      splitFlops += split ? nodeFlops(node) : 0;
    }
    node.inputs.forEach((value, i) => {
      if (value?.constant?.kind === 'weight')
        weights.set(value, (weights.get(value) ?? true) && row?.inputs[i]?.kind === 'shard');
    });
  }
  const bytes = (values: readonly Value[]) => values.reduce((sum, value) => sum + valueBytes(value), 0);
  const all = bytes([...weights.keys()]);
  const split = bytes([...weights].flatMap(([value, whole]) => (whole ? [value] : [])));
  return { weights: all === 0 ? 0 : split / all, flops: flops === 0 ? 0 : splitFlops / flops };
};

/** What one more round of exchanges takes, beside its bytes. */
const roundMs = (rates: readonly Rates[]): number =>
  Math.max(...rates.map(({ latencyMs, segmentMs }) => latencyMs + segmentMs));

const timePrices = (rates: readonly Rates[]): Prices => ({
  perWeightByte: 0,
  perExchange: roundMs(rates),
  perWholeByte: 0,
  perWholeFlop: 0,
});

const priceList = (graph: Graph, { rates }: ChooseOptions): Prices => {
  const constants = findConstants(graph);
  const isRun = (node: Node) => !node.outputs.every((output) => !output || constants.has(output));
  const stepOf = (one: Rates) => graph.nodes.filter(isRun).reduce((sum, node) => sum + nodeMs(node, one), 0);
  const stepMs = Math.max(...rates.map(stepOf));
  const weights = new Set(graph.nodes.flatMap((node) => node.inputs.filter((value) => value?.constant !== undefined)));
  const bytes = [...weights].reduce((sum, value) => sum + (value ? valueBytes(value) : 0), 0);
  const flops = graph.nodes.filter(isRun).reduce((sum, node) => sum + nodeFlops(node), 0);
  return {
    perWeightByte: (WHOLE_WEIGHTS_PRICE * stepMs) / Math.max(1, bytes),
    perExchange: EXCHANGE_PRICE * stepMs + roundMs(rates),
    perWholeByte: stepMs / Math.max(1, bytes),
    perWholeFlop: stepMs / Math.max(1, flops),
  };
};

/** Weights stay whole on every rank, so only time has a price, and work that is left whole. */
const workPrices = (graph: Graph, options: ChooseOptions): Prices => ({
  ...timePrices(options.rates),
  perWholeFlop: priceList(graph, options).perWholeFlop,
});

/** The problem whose solution is the cheapest plan, before what is whole has a price: for those who want to solve it themselves. */
export const costGraphOf = (graph: Graph, placements: Placements, options: ChooseOptions): CostGraph =>
  new PlanProblem(graph, placements, options, priceList(graph, options)).costs(0);

/**
 * The cheapest plan. Where it would leave more than a twentieth of the weights or of the work whole, or half of the work where it is
 * only that which is to be split, the cheapest one that does not, as far as there is one.
 * @throws TandemError PLAN_TOO_WIDE when the graph is too entangled for the exact solver
 */
export const choose = (graph: Graph, placements: Placements, options: ChooseOptions): Plan => {
  if (options.goal === 'time') return new PlanProblem(graph, placements, options, timePrices(options.rates)).solve(0);
  const isWork = options.goal === 'work';
  const prices = isWork ? workPrices(graph, options) : priceList(graph, options);
  const problem = new PlanProblem(graph, placements, options, prices);
  const attempt = (step: number) => {
    const plan = problem.solve(step === 0 ? 0 : LEAST_WHOLE_PRICE * WHOLE_PRICE_FACTOR ** (step - 1));
    const { weights, flops } = shardedShares(graph, plan);
    return { plan, share: isWork ? flops : Math.min(weights, flops) };
  };
  const wanted = isWork ? WANTED_WORK : WANTED_SHARE;
  const isEnough = ({ share }: { readonly share: number }) => share >= wanted || options.rates.length === 1;
  // Most need no price or a low one, so its exponent is doubled until it is enough, and then the least one is looked for.
  let [low, high] = [-1, 0];
  let best = attempt(high);
  while (!isEnough(best) && high < WHOLE_PRICE_STEPS) {
    [low, high] = [high, Math.min(WHOLE_PRICE_STEPS, Math.max(1, 2 * high))];
    best = attempt(high);
  }
  while (isEnough(best) && high - low > 1) {
    const middle = Math.floor((low + high) / 2);
    const tried = attempt(middle);
    if (isEnough(tried)) [best, high] = [tried, middle];
    else low = middle;
  }
  return best.plan;
};
