/** Models that no split can run, refused before one is looked for, with the nodes that are the reason. */
import { TandemError } from '../../common/errors.js';
import type { TensorSpec } from '../../common/tensor.js';
import { findUses, type Graph, type Node, type Value } from '../graph/graph.js';
import { findFacts, operatorKey } from '../rules/index.js';

/** A subgraph reads tensors of the graph around it that its node does not list, so no stage after this one knows of them. */
export const checkStraight = ({ nodes }: Graph): void => {
  const hasSubgraph = (node: Node) =>
    [...node.attributes.values()].some(({ g, graphs }) => g !== undefined || graphs.length > 0);
  const branches = nodes.filter(hasSubgraph);
  if (branches.length === 0) return;
  throw new TandemError(
    'MODEL_CONTROL_FLOW',
    'The model decides at run time what it computes, so it cannot be split beforehand. Export it with fixed sizes, so that its branches are decided and its loops unrolled:',
    { problems: branches.map((node) => `node "${node.name}" is ${operatorKey(node)}`) },
  );
};

/** Ranks that draw their own random numbers would each compute something else. */
export const checkRepeatable = ({ nodes }: Graph, worldSize: number): void => {
  const random = nodes.filter((node) => findFacts(node).isRandom);
  if (random.length === 0 || worldSize === 1) return;
  throw new TandemError(
    'MODEL_RANDOM',
    'The model draws random numbers, so its ranks would not agree. Export it in evaluation mode (model.eval()), with noise as an input:',
    { problems: random.map(({ name, op }) => `node "${name}" is ${op}`) },
  );
};

/** Nodes whose results have an open size although all that they read is of known size. */
const findOrigins = (graph: Graph, output: Value): readonly Node[] => {
  const { producer } = findUses(graph);
  const seen = new Set<Value>();
  const origins = new Set<Node>();
  const visit = (value: Value): void => {
    if (value.shape || seen.has(value)) return;
    seen.add(value);
    const node = producer.get(value);
    const open = node?.inputs.flatMap((input) => (input && !input.shape ? [input] : [])) ?? [];
    if (node && open.length === 0) origins.add(node);
    open.forEach(visit);
  };
  visit(output);
  return [...origins];
};

const describe = (node: Node): string => {
  const made = node.outputs.flatMap((value) => (value && !value.shape ? [`"${value.name}"`] : []));
  return `node "${node.name}" (${operatorKey(node)}) makes ${made.join(', ')} of a size that only a run tells`;
};

/**
 * Sizes that depend on data may stand inside of a model, whose ranks then compute that part whole; not at its ends.
 * @throws TandemError MODEL_SHAPE with the outputs and the nodes where their sizes come from
 */
export const checkSized = (graph: Graph): void => {
  const open = graph.outputs.filter(({ shape }) => !shape);
  if (open.length === 0) return;
  throw new TandemError(
    'MODEL_SHAPE',
    'The size of what the model gives out depends on data, so its ranks cannot agree on it beforehand. Export it with outputs of fixed sizes:',
    {
      problems: open.map((output) => `output "${output.name}": ${findOrigins(graph, output).map(describe).join(', ')}`),
    },
  );
};

/** An input or output of a model that `checkSized` has let pass. */
export const requireSpec = ({ name, dtype, shape }: Value): TensorSpec => {
  if (shape) return { name, dtype, shape };
  throw new RangeError(`Expected "${name}" to have a known size.`);
};
