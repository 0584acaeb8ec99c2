/**
 * From an exporter's graph to a clean static one. ONNX Runtime is the constant folder and the shape inference:
 *
 * 1. fused operators are taken apart, symbolic dims get their fixed sizes, and every big weight becomes a graph input, so that none is read;
 * 2. a session with basic optimisations folds all shape arithmetic and saves what is left;
 * 3. a session on that, with every tensor marked as an output, tells all types and shapes;
 * 4. where a size is open because the folder left an operator on constants (`NonZero`), that is computed, and the rest folded again.
 */
import { TandemError } from '../../common/errors.js';
import type { TensorMetadata } from '../../common/onnxruntime.js';
import { DTYPES, type DType, isKnownShape, type OpenShape, type OpenSpec } from '../../common/tensor.js';
import type { Graph, Node, Value } from '../graph/graph.js';
import {
  createGraph,
  createModel,
  createValueInfo,
  type GraphProto,
  type ModelProto,
  type NodeProto,
  type TensorProto,
  type ValueInfoProto,
} from '../onnx/index.js';
import { type SourceModel, tensorBytes } from '../read/index.js';
import { computeOpen, foldInRuntime, inferSpecs } from './folding-session.js';
import { unfuse } from './unfuse.js';

/** Sizes by the names of symbolic dims. */
export type Dims = Readonly<Record<string, number>>;

const dtypeOf = (code: number): DType => {
  const found = Object.entries(DTYPES).find(([, { code: known }]) => known === code);
  if (!found)
    throw new TandemError(
      'MODEL_TYPE',
      `ONNX element type ${code} is not supported; expected one of ${Object.keys(DTYPES).join(', ')}.`,
    );
  return found[0] as DType;
};

/** Inputs of the model that are not initializers. */
const ownInputs = (graph: GraphProto): ValueInfoProto[] => {
  const initialized = new Set(graph.initializer.map((tensor) => tensor.name));
  return graph.input.filter((input) => !initialized.has(input.name));
};

const readDims = (input: ValueInfoProto): readonly (number | string)[] => {
  if (input.type?.value.case !== 'tensorType') {
    throw new TandemError('MODEL_TYPE', `Input "${input.name}" is not a tensor; only tensors can be inputs.`);
  }
  const dims = input.type.value.value.shape?.dim;
  if (!dims)
    throw new TandemError(
      'MODEL_SHAPE',
      `Input "${input.name}" has no shape, not even a rank. Export the model with input shapes.`,
    );
  return dims.map(({ value }, axis) => {
    if (value.case === 'dimValue') return Number(value.value);
    return value.case === 'dimParam' && value.value !== '' ? value.value : `${input.name}.${axis}`;
  });
};

const elementType = (input: ValueInfoProto): number =>
  input.type?.value.case === 'tensorType' ? input.type.value.value.elemType : 0;

/** The model's inputs as declared; a dim without size or name is called `input.axis`. */
export const declaredInputs = (model: ModelProto): readonly TensorMetadata[] =>
  ownInputs(model.graph ?? createGraph({})).map((input) => ({
    name: input.name,
    dtype: dtypeOf(elementType(input)),
    shape: readDims(input),
  }));

/** The model's outputs as declared; without dims where the exporter gave none. */
export const declaredOutputs = (model: ModelProto): readonly TensorMetadata[] =>
  (model.graph?.output ?? []).map((output) => ({
    name: output.name,
    dtype: dtypeOf(elementType(output)),
    shape: hasShape(output) ? readDims(output) : [],
  }));

const hasShape = (info: ValueInfoProto): boolean =>
  info.type?.value.case === 'tensorType' && info.type.value.value.shape !== undefined;

/** Fixes every symbolic dim of the inputs. */
const freezeInputs = (model: ModelProto, dims: Dims): ValueInfoProto[] => {
  const inputs = declaredInputs(model);
  const symbols = new Set(inputs.flatMap(({ shape }) => shape.filter((size) => typeof size === 'string')));
  const open = [...symbols].filter((name) => dims[name] === undefined);
  const unknown = Object.keys(dims).filter((name) => !symbols.has(name));
  const problems = [
    ...open.map((name) => {
      const users = inputs
        .filter(({ shape }) => shape.includes(name))
        .map((input) => `${input.name}[${input.shape.join(', ')}]`);
      return `"${name}" of ${users.join(' and ')} has no size: add --dim ${name}=SIZE`;
    }),
    ...unknown.map((name) => `--dim ${name}: the model has no such dim; it has ${[...symbols].join(', ') || 'none'}`),
    ...Object.entries(dims).flatMap(([name, size]) =>
      Number.isInteger(size) && size > 0 ? [] : [`--dim ${name}=${size}: expected a whole number above 0`],
    ),
  ];
  if (problems.length > 0) {
    throw new TandemError('MODEL_DIMS', 'The sizes of the model’s symbolic dims do not fit:', { problems });
  }
  return inputs.map(({ name, dtype, shape }) =>
    createValueInfo(
      name,
      DTYPES[dtype].code,
      shape.map((size) => (typeof size === 'string' ? (dims[size] ?? 0) : size)),
    ),
  );
};

/** The model with fixed dims and its big weights as inputs; declared shapes inside are dropped, for they may be symbolic. */
const makeFoldable = (source: SourceModel, dims: Dims): ModelProto => {
  const { model } = source;
  const graph = unfuse(model);
  const weightInputs = [...source.weights.values()].map((weight) =>
    createValueInfo(weight.name, DTYPES[weight.dtype].code, weight.shape),
  );
  return createModel({
    ...model,
    graph: createGraph({
      ...graph,
      input: [...freezeInputs(model, dims), ...weightInputs],
      output: graph.output.map((output) => createValueInfo(output.name, elementType(output), undefined)),
      initializer: graph.initializer.filter((tensor) => !source.weights.has(tensor.name)),
      valueInfo: [],
    }),
  });
};

const shapesOf = (shape: OpenShape): Pick<Value, 'shape' | 'openShape'> =>
  isKnownShape(shape) ? { shape } : { shape: undefined, openShape: shape };

const inlineValue = (tensor: TensorProto): Value => ({
  name: tensor.name,
  dtype: dtypeOf(tensor.dataType),
  shape: tensor.dims.map(Number),
  constant: { kind: 'inline', data: tensorBytes(tensor) },
});

/** Turns a folded model into nodes that hold values. */
const toGraph = (model: ModelProto, specs: ReadonlyMap<string, OpenSpec>, source: SourceModel): Graph => {
  const proto = model.graph ?? createGraph({});
  const values = new Map<string, Value>();
  const inputs: Value[] = [];
  for (const input of ownInputs(proto)) {
    const weight = source.weights.get(input.name);
    const value: Value = {
      name: input.name,
      dtype: dtypeOf(elementType(input)),
      ...shapesOf(readDims(input).map((size) => (typeof size === 'number' ? size : null))),
      ...(weight ? { constant: { kind: 'weight', source: weight } } : {}),
    };
    values.set(input.name, value);
    if (!weight) inputs.push(value);
  }
  for (const tensor of proto.initializer) values.set(tensor.name, inlineValue(tensor));
  const lookUp = (name: string): Value | undefined => {
    if (name === '') return undefined;
    const known = values.get(name);
    if (known) return known;
    const spec = specs.get(name);
    if (!spec)
      throw new TandemError(
        'MODEL_GRAPH',
        `Tensor "${name}" is read but never made; the model’s graph is broken. Check it with onnx.checker.`,
      );
    const value: Value = { name, dtype: spec.dtype, ...shapesOf(spec.shape) };
    values.set(name, value);
    return value;
  };
  const nodes = proto.node.map(
    (node, index): Node => ({
      name: node.name === '' ? `${node.opType}_${index}` : node.name,
      op: node.opType,
      domain: node.domain === 'ai.onnx' ? '' : node.domain,
      attributes: new Map(node.attribute.map((attribute) => [attribute.name, attribute])),
      inputs: node.input.map(lookUp),
      outputs: node.output.map(lookUp),
    }),
  );
  const outputs = proto.output.map(({ name }) => lookUp(name)).filter((value) => value !== undefined);
  const opsets = model.opsetImport.map(({ domain, version }) => ({ domain, version: Number(version) }));
  return { nodes, inputs, outputs, opsets, irVersion: Number(model.irVersion) };
};

/** What a node makes that is no tensor: sequences and optional values, which no segment can take or give. */
const NO_TENSOR = /Sequence(?!Length|At)|^Optional$/;

/** Node bindings of ONNX Runtime cannot hold it, so no rank could send it or keep it between segments. */
const makesBfloat16 = ({ opType, attribute }: NodeProto): boolean =>
  opType === 'Cast' && attribute.some(({ name, i }) => name === 'to' && Number(i) === DTYPES.bfloat16.code);

const checkBfloat16 = ({ graph }: ModelProto): void => {
  const nodes = (graph?.node ?? []).filter(makesBfloat16);
  if (nodes.length === 0) return;
  throw new TandemError(
    'MODEL_TYPE',
    'Expected element types that ONNX Runtime can hand to Node.js; found nodes that make bfloat16. Export the model so that it computes in single or half precision throughout:',
    { problems: nodes.map(({ name, output }) => `node "${name}" makes "${output[0]}"`) },
  );
};

const checkTensors = ({ graph }: ModelProto): void => {
  const others = (graph?.node ?? []).filter(({ opType }) => NO_TENSOR.test(opType) && !opType.startsWith('Concat'));
  if (others.length === 0) return;
  throw new TandemError(
    'MODEL_TYPE',
    'Expected a model of tensors; found nodes that make sequences or optional values. Export it so that it hands tensors from node to node:',
    { problems: others.map(({ name, opType }) => `node "${name}" is ${opType}`) },
  );
};

/**
 * Fixes the model's dims, folds its shape arithmetic and finds all shapes.
 * @throws TandemError MODEL_DIMS when a symbolic dim has no size, MODEL_TYPE where a node makes what Node.js cannot hold, MODEL_REFUSED
 *   when ONNX Runtime does not take the model
 */
export const fold = async (source: SourceModel, dims: Dims): Promise<Graph> => {
  let folded = await foldInRuntime(makeFoldable(source, dims));
  checkTensors(folded);
  checkBfloat16(folded);
  let specs = await inferSpecs(folded);
  for (let next = await computeOpen(folded, specs); next; next = await computeOpen(folded, specs)) {
    folded = await foldInRuntime(next);
    specs = await inferSpecs(folded);
  }
  return toGraph(folded, specs, source);
};
