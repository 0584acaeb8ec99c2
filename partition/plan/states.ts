/**
 * Finds the rows that each node may take: every legal combination of placements that can arise in this graph.
 *
 * The search starts at the contractions: each big weight is split along each of its factors, and where activations outweigh
 * the weights, they are split along their tokens and batch as well (sequence parallelism, arXiv 2205.05198): a whole copy of
 * little weights then saves sending much. Each split is followed to the neighbours for as long as rules allow. Where an operator would accept a split at other places (whole
 * heads, whole groups), that split is tried too, so head sizes and group counts find their way to the weights by themselves.
 */
import { TandemError } from '../../common/errors.js';
import { elementCount } from '../../common/tensor.js';
import { findUses, type Graph, type Node, type Value } from '../graph/graph.js';
import {
  apportion,
  isOverlapping,
  PARTIAL,
  type Placement,
  placementKey,
  REPLICATE,
  type Shard,
  withoutHalo,
} from '../graph/placement.js';
import { findFacts, findRule, operatorKey, whyNoRule } from '../rules/index.js';
import { findQuirk } from '../rules/quirks.js';
import type { Operand, PlaceContext, Row } from '../rules/rule.js';
import { isStatic } from '../rules/rule.js';
import { refine } from '../rules/signature.js';
import { batchOf, findTokens, type TokenSeed } from './tokens.js';

/** Splitting a smaller constant is not worth a search of its own. */
const SEED_ELEMENTS = 256;
/** Bounds the search; real graphs stay below 8. */
const CANDIDATES_PER_VALUE = 16;

/**
 * What is divided: `tensor`, the weights and the work on them; `batch`, the pictures and prompts of a batch, such as the two halves
 * of classifier-free guidance, with all weights on every rank; `tokens`, the tokens or rows of each picture, with all weights on
 * every rank.
 */
export type Split = 'tensor' | 'batch' | 'tokens';

export interface Placements {
  /** Per node its rows; the first is always all-replicate. */
  readonly rows: ReadonlyMap<Node, readonly Row[]>;
  /** Values that are computed from weights alone, and so once. */
  readonly constants: ReadonlySet<Value>;
}

const replicateRow = (node: Node): Row => ({
  inputs: node.inputs.map(() => REPLICATE),
  outputs: node.outputs.map(() => REPLICATE),
});

const rowKey = (row: Row): string => [...row.inputs, ...row.outputs].map(placementKey).join(' ');

/** Whether a node gives the same all along an axis of its result: it repeats what it reads. */
const isRepeatedBy = (node: Node | undefined, axis: number): boolean => {
  const [input, output] = [node?.inputs[0]?.shape, node?.outputs[0]?.shape];
  if (!node || !input || !output || !['Expand', 'Tile'].includes(operatorKey(node))) return false;
  return (input[axis - (output.length - input.length)] ?? 1) === 1 && (output[axis] ?? 1) > 1;
};

/** Values that depend on no model input, and are not among the model's outputs. */
export const findConstants = (graph: Graph): ReadonlySet<Value> => {
  const constants = new Set<Value>();
  const outputs = new Set(graph.outputs);
  const isConstant = (value: Value | undefined) => !value || value.constant !== undefined || constants.has(value);
  for (const node of graph.nodes) {
    if (!node.inputs.every(isConstant)) continue;
    for (const output of node.outputs) if (output && !outputs.has(output)) constants.add(output);
  }
  return constants;
};

/**
 * @param seeds where splits start: at the contractions (`tensor`), at the model's inputs, along their batch (`batch`), or at what the
 * contractions read, along its tokens or rows (`tokens`), and then no product's weights are split
 * @throws TandemError PLAN_BATCH where the batch has fewer parts than there are ranks; PLAN_TOKENS where no picture has
 */
export const place = (graph: Graph, context: PlaceContext, seeds: Split = 'tensor'): Placements =>
  new Search(graph, context, seeds).run();

const batchTooSmall = (batch: number, ranks: number): TandemError =>
  new TandemError(
    'PLAN_BATCH',
    `Expected a batch of at least ${ranks}, one for each rank, to split the batch; found ${batch}. Split the tensors instead (--split tensor), or give fewer devices.`,
  );

const tooFewTokens = (ranks: number): TandemError =>
  new TandemError(
    'PLAN_TOKENS',
    `Expected a model that works on at least ${ranks} tokens or rows, one for each rank, to split them; found none. Split the tensors instead (--split tensor), or give fewer devices.`,
  );

class Search {
  readonly #graph: Graph;
  readonly #seeds: Split;
  readonly #context: PlaceContext;
  readonly #uses;
  readonly #constants: ReadonlySet<Value>;
  readonly #rows = new Map<Node, Map<string, Row>>();
  readonly #candidates = new Map<Value, Map<string, Placement>>();
  readonly #queue: { readonly value: Value; readonly placement: Placement }[] = [];

  constructor(graph: Graph, context: PlaceContext, seeds: Split) {
    this.#graph = graph;
    this.#seeds = seeds;
    this.#uses = findUses(graph);
    const isRepeated = (value: Value, axis: number) => isRepeatedBy(this.#uses.producer.get(value), axis);
    this.#context = { ...context, rows: seeds === 'tokens', known: (value) => this.#shards(value), isRepeated };
    this.#constants = findConstants(graph);
    for (const node of graph.nodes) {
      const row = replicateRow(node);
      this.#rows.set(node, new Map([[rowKey(row), row]]));
    }
  }

  run(): Placements {
    if (this.#context.speeds.length > 1) this.#seedAll();
    for (let next = this.#queue.shift(); next; next = this.#queue.shift()) this.#spread(next.value, next.placement);
    return {
      rows: new Map([...this.#rows].map(([node, rows]) => [node, [...rows.values()]])),
      constants: this.#constants,
    };
  }

  #seedAll(): void {
    switch (this.#seeds) {
      case 'tensor':
        for (const node of this.#graph.nodes) this.#seed(node);
        return;
      case 'batch':
        this.#seedBatch();
        return;
      case 'tokens':
        this.#seedTokens();
        return;
      default:
        this.#seeds satisfies never;
    }
  }

  #seedTokens(): void {
    const seeds = findTokens(this.#graph, (value) => this.#isWeight(value));
    const shards = seeds.flatMap((seed) => this.#shardOf(seed) ?? []);
    if (!shards.some(({ isTokens }) => isTokens)) throw tooFewTokens(this.#context.speeds.length);
    for (const { value, shard } of shards) this.#suggest(value, shard);
  }

  #shardOf({ value, axis, pieces: count, isTokens }: TokenSeed) {
    const extent = (value.shape?.[axis] ?? 0) / count;
    const piece = Number.isInteger(extent) ? apportion(extent, extent, this.#context.speeds) : undefined;
    const shard = piece && ({ kind: 'shard', axis, pieces: Array.from({ length: count }, () => piece) } as const);
    return shard && { value, shard, isTokens };
  }

  /** The batch is the first axis of the model's largest input, and of those inputs that have as many. */
  #seedBatch(): void {
    const batch = batchOf(this.#graph);
    const piece = apportion(batch, batch, this.#context.speeds);
    if (!piece) throw batchTooSmall(batch, this.#context.speeds.length);
    for (const input of this.#graph.inputs) {
      if (input.shape?.[0] === batch) this.#suggest(input, { kind: 'shard', axis: 0, pieces: [piece] });
    }
  }

  #seed(node: Node): void {
    for (const factor of findRule(node)?.seeds(node) ?? []) {
      const axes = factor.map(({ input, axis }) => ({ value: node.inputs[input], axis }));
      const weights = axes.filter(({ value }) => value && this.#isWeight(value));
      const worthwhile = weights.length > 0 ? weights : this.#outweighs(node) ? axes.slice(0, 1) : [];
      for (const { value, axis } of worthwhile) if (value) this.#seedAxis(value, axis);
    }
  }

  /** Whether a product has more activations than weights. */
  #outweighs(node: Node): boolean {
    const sizes = (weights: boolean) =>
      node.inputs
        .filter((value) => value && this.#isWeight(value) === weights)
        .reduce((sum, value) => sum + elementCount(value?.shape ?? []), 0);
    return sizes(true) > 0 && sizes(false) > sizes(true);
  }

  #seedAxis(value: Value, axis: number): void {
    if (!value.shape || elementCount(value.shape) < SEED_ELEMENTS) return;
    const extent = value.shape[axis] ?? 0;
    const piece = apportion(extent, extent, this.#context.speeds);
    if (piece) this.#suggest(value, { kind: 'shard', axis, pieces: [piece] });
  }

  #isWeight(value: Value): boolean {
    return value.constant !== undefined || this.#constants.has(value);
  }

  #suggest(value: Value, placement: Placement): void {
    const known = this.#candidates.get(value) ?? new Map<string, Placement>();
    this.#candidates.set(value, known);
    const key = placementKey(placement);
    if (known.has(key) || known.size >= CANDIDATES_PER_VALUE) return;
    known.set(key, placement);
    this.#queue.push({ value, placement });
  }

  #shards(value: Value): readonly Shard[] {
    return [...(this.#candidates.get(value)?.values() ?? [])].filter((placement) => placement.kind === 'shard');
  }

  /**
   * Parts that overlap are for what is computed of a tensor on the way to where it is repeated. From there on each rank reads no
   * more than its own part, so they spread towards the weights alone.
   */
  #spread(value: Value, placement: Placement): void {
    const readers = placement.kind === 'shard' && isOverlapping(placement) ? [] : this.#uses.consumers.get(value);
    for (const node of readers ?? []) {
      node.inputs.forEach((input, index) => {
        if (input === value) this.#try(node, { side: 'inputs', index }, placement);
      });
    }
    const producer = this.#uses.producer.get(value);
    if (!producer || placement.kind === 'partial') return;
    this.#try(producer, { side: 'outputs', index: producer.outputs.indexOf(value) }, placement);
  }

  #try(node: Node, operand: Operand, placement: Placement): void {
    switch (placement.kind) {
      case 'replicate':
        return;
      case 'partial':
        this.#tryPartial(node, operand.index);
        return;
      case 'shard':
        this.#tryShard(node, operand, placement);
        return;
    }
  }

  #tryShard(node: Node, operand: Operand, shard: Shard): void {
    const match = findRule(node)?.match(node, operand, shard, this.#context);
    if (match?.kind === 'row') {
      for (const row of [match.row, match.finer]) if (row && !this.#keepsClear(node, row)) this.#addRow(node, row);
    }
    const value = node[operand.side][operand.index];
    if (match?.kind === 'wants' && value) for (const wanted of match.shards) this.#suggest(value, wanted);
  }

  /** Where a rank's device gets this row wrong, and would not at other bounds: tries those instead. */
  #keepsClear(node: Node, row: Row): boolean {
    const { providers = [] } = this.#context;
    for (const [rank, provider] of providers.entries()) {
      const remedy = findQuirk(node, row, rank, provider)?.remedy;
      if (remedy?.kind !== 'multiple') continue;
      for (const [input, axis] of Object.entries(remedy.axis)) {
        const [value, placement] = [node.inputs[Number(input)], row.inputs[Number(input)]];
        if (placement?.kind !== 'shard' || placement.axis !== axis || value === undefined) continue;
        const clear = refine(placement, remedy.of, this.#context);
        if (clear === undefined) continue;
        this.#suggest(value, clear);
        return true;
      }
    }
    return false;
  }

  #tryPartial(node: Node, index: number): void {
    if (!isStatic(node)) return;
    for (const together of findRule(node)?.linear(node) ?? []) {
      if (!together.includes(index)) continue;
      if (together.some((i) => !node.inputs[i] || this.#isWeight(node.inputs[i]))) continue;
      const inputs = node.inputs.map((_, i) => (together.includes(i) ? PARTIAL : REPLICATE));
      this.#addRow(node, { inputs, outputs: node.outputs.map(() => PARTIAL) });
    }
  }

  /** What is split by tokens leaves the weights of products whole. */
  #splitsWeights(node: Node, row: Row): boolean {
    if (this.#seeds !== 'tokens' || !findFacts(node).isProduct) return false;
    return node.inputs.some((value, i) => value && this.#isWeight(value) && row.inputs[i]?.kind === 'shard');
  }

  #addRow(node: Node, row: Row): void {
    const rows = this.#rows.get(node);
    const key = rowKey(row);
    if (!rows || rows.has(key) || this.#splitsWeights(node, row)) return;
    rows.set(key, row);
    const suggestAll = (values: readonly (Value | undefined)[], placements: readonly Placement[]) =>
      values.forEach((value, i) => {
        const placement = placements[i];
        // A constant can be sliced anew for each of its readers, so what one of them needs is nothing to the others.
        if (value && !value.constant && placement && placement.kind !== 'replicate')
          this.#suggest(value, placement.kind === 'shard' ? withoutHalo(placement) : placement);
      });
    suggestAll(
      node.inputs.map((value, i) => (row.inputs[i]?.kind === 'partial' ? undefined : value)),
      row.inputs,
    );
    suggestAll(node.outputs, row.outputs);
  }
}

/** Why a node can only run whole. */
export const whyWhole = (node: Node, rows: readonly Row[]): string => {
  if (!findRule(node)) return `no rule for operator ${operatorKey(node)}: ${whyNoRule(node)}`;
  if (!isStatic(node)) return 'its sizes depend on data';
  return rows.length > 1 ? 'splitting it would cost more than it saves' : 'no split of its neighbours reaches it';
};
