/**
 * Which module of the exported network a node comes from, for people: `down_blocks.0`, `resnets.1`, `conv1`. TorchScript's
 * exporter writes it into the names of nodes, dynamo's into their metadata, and both into the names of most weights; a node
 * with none of these belongs to what ran before it.
 */

import type { ModelProto, NodeProto } from '../onnx/index.js';
import type { Graph, Node } from './graph.js';

/** Modules from the whole network inwards. */
export type Scope = readonly string[];

/** `unet.down_blocks.0.resnets.1.conv1`: a number belongs to the word before it. */
const splitPath = (path: string): Scope => {
  const parts: string[] = [];
  for (const word of path.split('.').filter((part) => part !== '')) {
    const last = parts.at(-1);
    if (last !== undefined && /^\d+$/.test(word)) parts.splice(-1, 1, `${last}.${word}`);
    else parts.push(word);
  }
  return parts;
};

/** Where PyTorch's dynamo exporter writes the modules around a node: a Python list of paths, the last the node itself. */
const DYNAMO_KEY = 'pkg.torch.onnx.name_scopes';

const scopeOfMetadata = ({ metadataProps }: NodeProto): Scope | undefined => {
  const written = metadataProps.find(({ key }) => key === DYNAMO_KEY)?.value;
  const paths = [...(written ?? '').matchAll(/'([^']*)'/g)].map(([, path = '']) => path);
  const module = paths.at(-2);
  return module ? splitPath(module) : undefined;
};

/** `/unet/down_blocks.0/resnets.1/conv1/Conv`; the last part is the operator. */
const scopeOfName = (name: string): Scope | undefined =>
  name.startsWith('/') ? name.split('/').slice(1, -1) : undefined;

/** `unet.conv_in.weight`; the last word is the parameter. Names such as `onnx::MatMul_12` are made up by the exporter. */
const scopeOfWeights = ({ inputs }: Node): Scope | undefined => {
  const named = inputs.find((value) => value?.constant && /^[\w.]+\.[\w]+(@\w+)?$/.test(value.name));
  return named && splitPath(named.name.split('.').slice(0, -1).join('.'));
};

/** Length of the parts that all scopes begin with: a wrapper's name says nothing. */
const commonLength = (scopes: readonly Scope[]): number => {
  const [first = []] = scopes;
  const differs = first.findIndex((part, depth) => scopes.some((scope) => scope[depth] !== part));
  return Math.max(0, differs);
};

/**
 * The scope of every node, without what all begin with; empty for all where the exporter left no names.
 * @param model as it was read: folding drops metadata
 */
export const findScopes = (graph: Graph, model: ModelProto): ReadonlyMap<Node, Scope> => {
  const written = new Map((model.graph?.node ?? []).map((node) => [node.name, scopeOfMetadata(node)]));
  const own = graph.nodes.map((node): readonly [Node, Scope] => [
    node,
    scopeOfName(node.name) ?? written.get(node.name) ?? scopeOfWeights(node) ?? [],
  ]);
  const skipped = commonLength(own.map(([, scope]) => scope).filter(({ length }) => length > 0));
  let current: Scope = [];
  return new Map(
    own.map(([node, scope]) => {
      if (scope.length > skipped) current = scope.slice(skipped);
      return [node, current];
    }),
  );
};
