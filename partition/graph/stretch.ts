/**
 * A stretch of a model: consecutive nodes of its graph as a graph of their own, which is split, written and run like any model.
 * What other stretches make of it or for it are its outputs and inputs, by the names that the whole graph has for them.
 */
import type { Graph, Node, Value } from './graph.js';

/** Places in the list of the nodes that depend on an input; `to` is the first that is not in it. */
export interface Stretch {
  readonly from: number;
  readonly to: number;
}

/** The nodes that run once a step, in order, and those whose results are known before. */
export interface Work {
  readonly nodes: readonly Node[];
  /** Computed from weights alone: each stretch has those of its own that it reads. */
  readonly constants: readonly Node[];
}

export const workOf = (graph: Graph): Work => {
  const known = new Set<Value>();
  const outputs = new Set(graph.outputs);
  const [nodes, constants]: [Node[], Node[]] = [[], []];
  for (const node of graph.nodes) {
    const isKnown = node.inputs.every((value) => !value || value.constant !== undefined || known.has(value));
    if (!isKnown || node.outputs.some((output) => output && outputs.has(output))) nodes.push(node);
    else {
      constants.push(node);
      for (const output of node.outputs) if (output) known.add(output);
    }
  }
  return { nodes, constants };
};

const made = (nodes: readonly Node[]): readonly Value[] =>
  nodes.flatMap(({ outputs }) => outputs.filter((output) => output !== undefined));

/** Constants that these nodes need, in the order of the graph. */
const needed = (graph: Graph, { constants }: Work, nodes: readonly Node[]): readonly Node[] => {
  const read = new Set(nodes.flatMap(({ inputs }) => inputs));
  const kept = new Set<Node>(nodes);
  for (const node of constants.toReversed()) {
    if (!node.outputs.some((output) => output && read.has(output))) continue;
    kept.add(node);
    for (const input of node.inputs) read.add(input);
  }
  return graph.nodes.filter((node) => kept.has(node));
};

/**
 * The graph of a stretch. The first one takes all of the model's inputs, also those that nothing reads.
 * @param stretch of the nodes of `workOf`
 */
export const stretchOf = (graph: Graph, { from, to }: Stretch): Graph => {
  const work = workOf(graph);
  const own = work.nodes.slice(from, to);
  const nodes = needed(graph, work, own);
  const local = new Set(made(nodes));
  const read = new Set(nodes.flatMap(({ inputs }) => inputs));
  const readLater = new Set(work.nodes.slice(to).flatMap(({ inputs }) => inputs));
  const arriving = made(work.nodes.slice(0, from)).filter((value) => read.has(value) && !local.has(value));
  const taken = from === 0 ? graph.inputs : graph.inputs.filter((value) => read.has(value));
  const leaving = made(own).filter((value) => readLater.has(value) || graph.outputs.includes(value));
  return { ...graph, nodes, inputs: [...taken, ...arriving], outputs: leaving };
};
