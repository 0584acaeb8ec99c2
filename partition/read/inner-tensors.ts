/** Walks to every tensor of a model that is not an initializer of its main graph. */
import type { GraphProto, ModelProto, NodeProto, SparseTensorProto, TensorProto } from '../onnx/index.js';

/** Tensors in attributes, subgraphs, functions and sparse initializers. */
export function* innerTensors(model: ModelProto): Generator<TensorProto> {
  if (model.graph) yield* graphTensors(model.graph);
  for (const { node, attributeProto } of model.functions) {
    yield* nodesTensors(node);
    yield* attributesTensors(attributeProto);
  }
}

function* graphTensors(graph: GraphProto): Generator<TensorProto> {
  yield* nodesTensors(graph.node);
  for (const sparse of graph.sparseInitializer) yield* sparseTensors(sparse);
}

function* nodesTensors(nodes: readonly NodeProto[]): Generator<TensorProto> {
  for (const { attribute } of nodes) yield* attributesTensors(attribute);
}

function* attributesTensors(attributes: NodeProto['attribute']): Generator<TensorProto> {
  for (const { t, tensors, g, graphs, sparseTensor, sparseTensors: sparses } of attributes) {
    if (t) yield t;
    yield* tensors;
    for (const graph of g ? [g, ...graphs] : graphs) {
      yield* graph.initializer;
      yield* graphTensors(graph);
    }
    for (const sparse of sparseTensor ? [sparseTensor, ...sparses] : sparses) yield* sparseTensors(sparse);
  }
}

function* sparseTensors({ values, indices }: SparseTensorProto): Generator<TensorProto> {
  if (values) yield values;
  if (indices) yield indices;
}
