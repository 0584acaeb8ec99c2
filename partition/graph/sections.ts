/** A graph cut into runs of its nodes, each a graph of its own: what passes between them is found here and nowhere else. */
import { findUses, type Graph, type Node, type Value } from './graph.js';

const distinct = (values: readonly (Value | undefined)[]): readonly Value[] =>
  [...new Set(values)].filter((value) => value !== undefined);

/** What a run reads and does not make, constants apart. */
const inputsOf = (nodes: readonly Node[]): readonly Value[] => {
  const made = new Set(nodes.flatMap(({ outputs }) => outputs));
  return distinct(nodes.flatMap(({ inputs }) => inputs)).filter((value) => !value.constant && !made.has(value));
};

/**
 * @param graph whose outputs are all that is needed of it in the end; its own nodes and inputs do not count
 * @param runs in order. A value may be made in several runs, each for itself
 * @returns a graph each, whose inputs are what it reads of others, and whose outputs what later ones read of it or is needed
 */
export const sections = (graph: Graph, runs: readonly (readonly Node[])[]): readonly Graph[] => {
  const inputs = runs.map(inputsOf);
  const needed = new Set(graph.outputs);
  const backwards = [...runs.keys()].reverse().map((index): Graph => {
    const nodes = runs[index] ?? [];
    const outputs = distinct(nodes.flatMap((node) => node.outputs)).filter((value) => needed.has(value));
    for (const value of inputs[index] ?? []) needed.add(value);
    return { ...graph, nodes, inputs: inputs[index] ?? [], outputs };
  });
  return backwards.reverse();
};

/**
 * What breaks the promises of a graph that passes rely on: a node reads only constants, the graph's inputs and what nodes
 * before it made; a value is made once; outputs are made. Empty where all hold.
 */
export const findBroken = ({ nodes, inputs, outputs }: Graph): readonly string[] => {
  const known = new Set<Value>(inputs);
  const problems: string[] = [];
  for (const node of nodes) {
    const early = node.inputs.filter((value) => value && !value.constant && !known.has(value));
    problems.push(...early.map((value) => `node "${node.name}" reads "${value?.name}" before it is made`));
    for (const value of node.outputs) {
      if (value && known.has(value)) problems.push(`"${value.name}" is made twice`);
      if (value) known.add(value);
    }
  }
  const { producer } = findUses({ nodes });
  return [...problems, ...outputs.filter((value) => !producer.has(value)).map(({ name }) => `"${name}" is never made`)];
};
