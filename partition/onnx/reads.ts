/** Which names nodes read, those of their subgraphs included: a subgraph sees the tensors of the graph around it. */
import type { GraphProto, NodeProto } from './gen/onnx_pb.js';

export function* nodeReads({ input, attribute }: NodeProto): Generator<string> {
  for (const name of input) if (name !== '') yield name;
  for (const { g, graphs } of attribute) {
    for (const inner of g ? [g, ...graphs] : graphs) yield* graphReads(inner);
  }
}

/** What the nodes read, and what the graph gives out. A name may come several times. */
export function* graphReads({ node, output }: GraphProto): Generator<string> {
  for (const inner of node) yield* nodeReads(inner);
  for (const { name } of output) yield name;
}
