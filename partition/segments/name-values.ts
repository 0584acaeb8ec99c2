/**
 * Names, given once and for all: from here on a value's name is what files, manifests and messages between ranks call it. The
 * model's inputs and outputs keep theirs; any other value is called as it was made, with a number where that is taken.
 */
import type { Graph, Node, Value } from '../graph/graph.js';
import type { Program } from './rank-program.js';

class Names {
  readonly #given = new Map<Value, Value>();
  readonly #taken: Set<string>;

  constructor({ inputs, outputs }: Program) {
    for (const value of [...inputs, ...outputs]) this.#given.set(value, value);
    this.#taken = new Set([...inputs, ...outputs].map(({ name }) => name));
  }

  of(value: Value): Value {
    const given = this.#given.get(value) ?? { ...value, name: this.#free(value.name) };
    this.#given.set(value, given);
    return given;
  }

  #free(wanted: string): string {
    let name = wanted;
    for (let number = 1; this.#taken.has(name); number++) name = `${wanted}.${number}`;
    this.#taken.add(name);
    return name;
  }

  node(node: Node): Node {
    const rename = (value: Value | undefined) => value && this.of(value);
    return { ...node, inputs: node.inputs.map(rename), outputs: node.outputs.map(rename) };
  }

  graph(graph: Graph): Graph {
    const rename = (value: Value) => this.of(value);
    const nodes = graph.nodes.map((node) => this.node(node));
    return { ...graph, nodes, inputs: graph.inputs.map(rename), outputs: graph.outputs.map(rename) };
  }
}

/** Requires names of the model's inputs and outputs that differ; ensures that all values of the program have such. */
export const nameProgram = (program: Program): Program => {
  const names = new Names(program);
  const rename = <T extends { readonly value: Value }>(one: T): T => ({ ...one, value: names.of(one.value) });
  const segments = program.segments.map(({ graph, sends, receives, folded }) => ({
    graph: names.graph(graph),
    sends: sends.map(rename),
    receives: receives.map(rename),
    folded: new Map([...folded].map(([value, bytes]) => [names.of(value), bytes])),
  }));
  return { ...program, segments, whole: new Map([...program.whole].map(([value, name]) => [names.of(value), name])) };
};
