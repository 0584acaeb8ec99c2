/** What of a segment is known before it runs: its constants, and what nodes make of nothing but constants. */

import { constantsOf, type Graph, type Node, type Value } from '../../graph/graph.js';

/** By value, the graph's constants that it is made of. */
export type Known = ReadonlyMap<Value, readonly Value[]>;

/** Whether all that a node reads is known, so that ONNX Runtime folds it. */
export const isFolded = ({ inputs }: Node, known: Known): boolean =>
  inputs.every((value) => !value || known.has(value));

export const findKnown = (graph: Graph): Known => {
  const known = new Map([...constantsOf(graph)].map((value): [Value, readonly Value[]] => [value, [value]]));
  for (const node of graph.nodes) {
    if (!isFolded(node, known)) continue;
    const constants = node.inputs.flatMap((value) => (value ? (known.get(value) ?? []) : []));
    for (const value of node.outputs) if (value) known.set(value, constants);
  }
  return known;
};
