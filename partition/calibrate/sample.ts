/** Which of a model's operators to measure: of each kind those with the most work, and some with little. */

import type { Graph, Node } from '../graph/graph.js';
import { classOf, nodeMs, rateKey, wholeLoad } from '../plan/cost.js';
import type { Rates } from '../plan/rates.js';
import { findConstants } from '../plan/states.js';
import { operatorKey } from '../rules/index.js';
import type { OperatorClass } from '../rules/rule.js';
import { isStatic } from '../rules/rule.js';

/** Different shapes measured of each operator. */
const LARGE = 4;
const SMALL = 2;

export interface Sample {
  readonly kind: OperatorClass;
  /** `rateKey` */
  readonly key: string;
  readonly node: Node;
}

const signatureOf = (node: Node): string =>
  JSON.stringify([operatorKey(node), ...[...node.inputs, ...node.outputs].map((value) => value?.shape)]);

interface Candidate {
  readonly sample: Sample;
  readonly ms: number;
  count: number;
}

/** Whether the operator can be run by itself on numbers that mean nothing. */
const canRunAlone = (node: Node): boolean => {
  const { flops, readBytes, writtenBytes } = wholeLoad(node);
  const isIndexed = node.inputs.some((value) => value && !value.constant && !value.dtype.startsWith('float'));
  return isStatic(node) && !isIndexed && flops + readBytes + writtenBytes > 0;
};

/**
 * Operators of a graph that stand for all of it.
 * @param rates to tell large from small by
 */
export const sampleOperators = (graph: Graph, rates: Rates): readonly Sample[] => {
  const constants = findConstants(graph);
  const found = new Map<string, Map<string, Candidate>>();
  for (const node of graph.nodes) {
    const kind = classOf(node);
    const isConstant = node.outputs.every((output) => !output || constants.has(output));
    if (kind === undefined || isConstant || !canRunAlone(node)) continue;
    const candidates = found.get(rateKey(node)) ?? new Map<string, Candidate>();
    found.set(rateKey(node), candidates);
    const signature = signatureOf(node);
    const known = candidates.get(signature);
    if (known) known.count += 1;
    else candidates.set(signature, { sample: { kind, key: rateKey(node), node }, ms: nodeMs(node, rates), count: 1 });
  }
  return [...found.values()].flatMap((candidates) => pick([...candidates.values()]));
};

const pick = (candidates: readonly Candidate[]): readonly Sample[] => {
  const byWork = [...candidates].sort((a, b) => b.count * b.ms - a.count * a.ms);
  const bySize = byWork.slice(LARGE).sort((a, b) => a.ms - b.ms);
  return [...byWork.slice(0, LARGE), ...bySize.slice(0, SMALL)].map(({ sample }) => sample);
};

/** A model is divided into so many stretches of about the same work; of these, every third is measured. */
const STRETCHES = 24;
const MEASURED_EACH = 3;

/**
 * Stretches of a graph, each of consecutive nodes. What ONNX Runtime makes of several operators together, fused or in another
 * layout, shows in these only.
 */
export const sampleStretches = (graph: Graph, rates: Rates): readonly (readonly Node[])[] => {
  const constants = findConstants(graph);
  const isConstant = (node: Node) => node.outputs.every((output) => !output || constants.has(output));
  const nodes = graph.nodes.filter((node) => !isConstant(node) && isStatic(node));
  const total = nodes.reduce((sum, node) => sum + nodeMs(node, rates), 0);
  const stretches: Node[][] = Array.from({ length: STRETCHES }, () => []);
  let before = 0;
  for (const node of nodes) {
    stretches[Math.min(STRETCHES - 1, Math.floor((STRETCHES * before) / total))]?.push(node);
    before += nodeMs(node, rates);
  }
  return stretches.filter((stretch, index) => index % MEASURED_EACH === 1 && stretch.length > 0);
};
