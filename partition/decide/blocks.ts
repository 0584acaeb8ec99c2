/**
 * A plan's network in pieces that a person can follow: modules by the exporter's names, opened up until each ends in one
 * exchange at most; where there are no names, the stretches between exchanges.
 */

import type { Graph, Node, Value } from '../graph/graph.js';
import { type Placement, REPLICATE } from '../graph/placement.js';
import type { Scope } from '../graph/scopes.js';
import type { Plan } from '../plan/choose.js';
import { nodeFlops, valueBytes } from '../plan/cost.js';
import type { Cut } from '../plan/cut.js';
import { operatorKey } from '../rules/index.js';

/** How the results of some of a block's work lie on the ranks. */
export interface BlockWork {
  /** `shard`: each rank has a part along `axis` of `axes`. `partial`: each has an addend. `replicate`: each has all. */
  readonly placement: Placement['kind'];
  readonly axis?: number;
  readonly axes?: number;
  /** Share of the whole model's operations, 0 to 1. */
  readonly flop_fraction: number;
  /** The operators that do it, those with the most work first. */
  readonly ops: readonly string[];
}

/** One module of the network. */
export interface PlanBlock {
  /** Modules from the outside inwards: `["down_blocks.0", "resnets.1"]`. */
  readonly scope: Scope;
  readonly nodes: number;
  /** Share of the whole model's operations, 0 to 1. */
  readonly flop_fraction: number;
  /** Of the weights before they are split; one that several blocks read counts for each. */
  readonly weight_bytes: number;
  readonly work: readonly BlockWork[];
  /** Tensors of `collectives` that are made here. */
  readonly exchanges: readonly string[];
}

export interface BlockSources {
  readonly graph: Graph;
  readonly plan: Plan;
  readonly cut: Cut;
  readonly scopes: ReadonlyMap<Node, Scope>;
}

const SEPARATOR = '/';
const keyOf = (scope: Scope): string => scope.join(SEPARATOR);
const prefixes = (scope: Scope): readonly Scope[] => scope.map((_, depth) => scope.slice(0, depth + 1));

/** Scopes to group by: the exporter's, or segments where it left none. */
const usableScopes = ({ cut, scopes }: BlockSources, nodes: readonly Node[]): ReadonlyMap<Node, Scope> => {
  const isNamed = nodes.some((node) => (scopes.get(node) ?? []).length > 0);
  return isNamed ? scopes : new Map(nodes.map((node) => [node, [`segment ${cut.segmentOf.get(node) ?? 0}`]]));
};

/** Modules inside of which several exchanges happen, by key. */
const findOpened = ({ graph, cut }: BlockSources, scopes: ReadonlyMap<Node, Scope>): ReadonlySet<string> => {
  const cuts = new Map<string, Set<number>>();
  // Of collectives of one tensor the first: the others follow on it.
  const after = new Map<Value, number>(cut.collectives.toReversed().map(({ value, after }) => [value, after]));
  for (const node of graph.nodes) {
    for (const output of node.outputs) {
      const at = output && after.get(output);
      if (at === undefined) continue;
      for (const key of prefixes(scopes.get(node) ?? []).map(keyOf))
        cuts.set(key, (cuts.get(key) ?? new Set()).add(at));
    }
  }
  return new Set([...cuts].filter(([, at]) => at.size > 1).map(([key]) => key));
};

interface Draft {
  readonly scope: Scope;
  readonly nodes: Node[];
}

/** What an opened module does outside of its parts, residual sums mostly, goes to the part that ran before it. */
const gather = (
  nodes: readonly Node[],
  scopes: ReadonlyMap<Node, Scope>,
  opened: ReadonlySet<string>,
): readonly Draft[] => {
  const drafts = new Map<string, Draft>();
  let last: Draft | undefined;
  for (const node of nodes) {
    const scope = scopes.get(node) ?? [];
    const block = prefixes(scope).find((prefix) => !opened.has(keyOf(prefix)));
    if (!block && last) {
      last.nodes.push(node);
      continue;
    }
    const key = keyOf(block ?? scope);
    last = drafts.get(key) ?? { scope: block ?? scope, nodes: [] };
    drafts.set(key, last);
    last.nodes.push(node);
  }
  return [...drafts.values()];
};

/**
 * In the order in which they run. A module's place is the middle of its nodes' places, for exporters compute the time
 * embeddings of all blocks early on; the parts of a module stay together.
 */
const inOrder = (drafts: readonly Draft[], nodes: readonly Node[]): readonly Draft[] => {
  const order = new Map(nodes.map((node, place) => [node, place]));
  const places = new Map<string, number[]>();
  for (const { scope, nodes: own } of drafts) {
    const at = own.map((node) => order.get(node) ?? 0);
    for (const key of prefixes(scope).map(keyOf)) places.set(key, [...(places.get(key) ?? []), ...at]);
  }
  const middle = new Map(
    [...places].map(([key, at]) => [key, at.sort((a, b) => a - b)[Math.floor(at.length / 2)] ?? 0]),
  );
  const sortKey = ({ scope }: Draft) => prefixes(scope).map((prefix) => middle.get(keyOf(prefix)) ?? 0);
  const compare = (a: readonly number[], b: readonly number[]) => {
    const depth = a.findIndex((place, i) => place !== b[i]);
    return depth < 0 ? a.length - b.length : (a[depth] ?? 0) - (b[depth] ?? -1);
  };
  return drafts
    .map((draft) => ({ draft, key: sortKey(draft) }))
    .sort((a, b) => compare(a.key, b.key))
    .map(({ draft }) => draft);
};

const workOf = (nodes: readonly Node[], plan: Plan, total: number): readonly BlockWork[] => {
  const kinds = new Map<string, { placement: Placement; axes: number; flops: number; ops: Map<string, number> }>();
  for (const node of nodes) {
    const flops = nodeFlops(node);
    if (flops === 0) continue;
    const placement = plan.rows.get(node)?.outputs[0] ?? REPLICATE;
    const axes = node.outputs[0]?.shape?.length ?? 0;
    const key = placement.kind === 'shard' ? `${placement.axis} of ${axes}` : placement.kind;
    const kind = kinds.get(key) ?? { placement, axes, flops: 0, ops: new Map<string, number>() };
    kind.flops += flops;
    kind.ops.set(operatorKey(node), (kind.ops.get(operatorKey(node)) ?? 0) + flops);
    kinds.set(key, kind);
  }
  return [...kinds.values()]
    .sort((a, b) => b.flops - a.flops)
    .map(({ placement, axes, flops, ops }) => ({
      placement: placement.kind,
      ...(placement.kind === 'shard' ? { axis: placement.axis, axes } : {}),
      flop_fraction: flops / total,
      ops: [...ops].sort(([, a], [, b]) => b - a).map(([op]) => op),
    }));
};

const weightsOf = (nodes: readonly Node[]): number => {
  const weights = new Set(nodes.flatMap(({ inputs }) => inputs.filter((value) => value?.constant?.kind === 'weight')));
  return [...weights].reduce((sum, value) => sum + (value ? valueBytes(value) : 0), 0);
};

/** The blocks of a plan, in the order in which they run. */
export const makeBlocks = (sources: BlockSources): readonly PlanBlock[] => {
  const { graph, plan, cut } = sources;
  const nodes = graph.nodes.filter((node) => cut.segmentOf.has(node));
  const scopes = usableScopes(sources, nodes);
  const total = Math.max(
    1,
    nodes.reduce((sum, node) => sum + nodeFlops(node), 0),
  );
  const exchanged = new Set(cut.collectives.map(({ value }) => value));
  return inOrder(gather(nodes, scopes, findOpened(sources, scopes)), nodes).map(({ scope, nodes: own }) => ({
    scope,
    nodes: own.length,
    flop_fraction: own.reduce((sum, node) => sum + nodeFlops(node), 0) / total,
    weight_bytes: weightsOf(own),
    work: workOf(own, plan, total),
    exchanges: own.flatMap(({ outputs }) =>
      outputs.flatMap((value) => (value && exchanged.has(value) ? [value.name] : [])),
    ),
  }));
};
