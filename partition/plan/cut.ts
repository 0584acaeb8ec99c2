/**
 * Cuts a plan into segments. A session cannot pause to communicate, so a rank's program is a chain of graphs with an
 * exchange between each and the next; collectives that do not depend on each other share an exchange.
 *
 * A node's segment is the number of exchanges that its inputs have to wait for. What nothing in its segment waits for runs
 * as late as it may, so that fewer tensors wait between segments.
 */

import { type Conversion, requireForm } from '../graph/collective.js';
import type { Graph, Node, Value } from '../graph/graph.js';
import { REPLICATE } from '../graph/placement.js';
import type { Plan } from './choose.js';

/** A conversion of a tensor between segment `after` and the next. */
export type Collective = Conversion & {
  readonly value: Value;
  readonly after: number;
};

export interface Cut {
  readonly segmentCount: number;
  /** Segment of every node that is not computed from weights alone; those run wherever they are read. */
  readonly segmentOf: ReadonlyMap<Node, number>;
  readonly collectives: readonly Collective[];
}

const producerMap = (graph: Graph): Map<Value, Node> =>
  new Map(graph.nodes.flatMap((node) => node.outputs.flatMap((output) => (output ? [[output, node] as const] : []))));

/** Inputs of a node that are made at run time, with the number of collectives that the node's row makes it wait for. */
const tensorInputs = (node: Node, plan: Plan) =>
  node.inputs.flatMap((value, i) => {
    const state =
      value && !value.constant && !plan.placements.constants.has(value) ? plan.tensors.get(value) : undefined;
    return value && state ? [{ value, waits: requireForm(state, plan.rows.get(node)?.inputs[i] ?? REPLICATE) }] : [];
  });

/** The first segment in which each node can run. */
const earliest = (nodes: readonly Node[], plan: Plan, producers: ReadonlyMap<Value, Node>): Map<Node, number> => {
  const segments = new Map<Node, number>();
  for (const node of nodes) {
    const ready = tensorInputs(node, plan).map(({ value, waits }) => {
      const producer = producers.get(value);
      return (producer ? (segments.get(producer) ?? 0) : 0) + waits;
    });
    segments.set(node, Math.max(0, ...ready));
  }
  return segments;
};

/** Moves nodes towards their consumers; what a collective waits for stays. */
const postpone = (
  nodes: readonly Node[],
  plan: Plan,
  producers: ReadonlyMap<Value, Node>,
  first: ReadonlyMap<Node, number>,
  last: number,
): Map<Node, number> => {
  const limits = new Map<Node, number>();
  const segments = new Map<Node, number>();
  const limit = (node: Node | undefined, segment: number) => {
    if (node) limits.set(node, Math.min(limits.get(node) ?? last, segment));
  };
  for (const node of [...nodes].reverse()) {
    const isSent = node.outputs.some((output) => output && (plan.tensors.get(output)?.conversions.length ?? 0) > 0);
    const segment = isSent ? (first.get(node) ?? 0) : (limits.get(node) ?? last);
    segments.set(node, segment);
    for (const { value, waits } of tensorInputs(node, plan)) {
      if (waits === 0) limit(producers.get(value), segment);
    }
  }
  return segments;
};

export const cut = (graph: Graph, plan: Plan): Cut => {
  const producers = producerMap(graph);
  const nodes = graph.nodes.filter(
    (node) => !node.outputs.every((output) => !output || plan.placements.constants.has(output)),
  );
  const first = earliest(nodes, plan, producers);
  const collectives = [...plan.tensors].flatMap(([value, { conversions }]): readonly Collective[] => {
    const producer = producers.get(value);
    const made = producer ? (first.get(producer) ?? 0) : 0;
    return conversions.map((conversion, i) => ({ ...conversion, value, after: made + i }));
  });
  const last = Math.max(0, ...first.values(), ...collectives.map(({ after }) => after + 1));
  return { segmentCount: last + 1, segmentOf: postpone(nodes, plan, producers, first, last), collectives };
};
