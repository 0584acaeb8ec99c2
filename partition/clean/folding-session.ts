/**
 * What ONNX Runtime does for `fold.ts`: it folds constants, infers types and shapes, and computes what it would not fold.
 */
import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { TandemError } from '../../common/errors.js';
import { openSession, type Session } from '../../common/onnxruntime.js';
import { DTYPES, isKnownSpec, type OpenSpec } from '../../common/tensor.js';
import {
  createGraph,
  createModel,
  createNode,
  createTensor,
  createValueInfo,
  decodeModel,
  encodeModel,
  type GraphProto,
  type ModelProto,
  type NodeProto,
  type TensorProto,
  type ValueInfoProto,
} from '../onnx/index.js';

/** Optimisations that would hide structure from the sharding rules, by ONNX Runtime's names. */
const HIDING_OPTIMIZERS = [
  'MatMulAddFusion',
  'TransposeOptimizer',
  'GemmSumFusion',
  'GemmTransposeFusion',
  'ConvAddFusion',
  'ConvMulFusion',
  'ConvBNFusion',
  'MatmulBNFusion',
  'PadFusion',
];

const refused = (what: string, error: unknown): TandemError => {
  const reason = error instanceof Error ? error.message : String(error);
  return new TandemError('MODEL_REFUSED', `ONNX Runtime ${what}: ${reason}`, { cause: error });
};

const open = async (model: string | Uint8Array, optimizedModelPath?: string): Promise<Session> => {
  try {
    return await openSession(model, {
      provider: 'cpu',
      optimization: optimizedModelPath ? 'basic' : 'disabled',
      ...(optimizedModelPath ? { optimizedModelPath, disabledOptimizers: HIDING_OPTIMIZERS } : {}),
    });
  } catch (error) {
    throw refused('does not accept the model', error);
  }
};

/** Folds in a scratch folder: ONNX Runtime hands back an optimised graph only as a file. */
export const foldInRuntime = async (model: ModelProto): Promise<ModelProto> => {
  const folder = await mkdtemp(join(tmpdir(), 'tandem-fold-'));
  try {
    const [plain, folded] = [join(folder, 'plain.onnx'), join(folder, 'folded.onnx')];
    await writeFile(plain, encodeModel(model));
    const session = await open(plain, folded);
    await session.dispose();
    return decodeModel(await readFile(folded));
  } finally {
    await rm(folder, { recursive: true, force: true });
  }
};

/** An output declaration without a type: ONNX Runtime fills it in. */
const untyped = (name: string): ValueInfoProto => {
  const { type: _, ...rest } = createValueInfo(name, 0, undefined);
  return rest as ValueInfoProto;
};

/** The same model with other outputs, and with further nodes where given. */
const withOutputs = (model: ModelProto, names: readonly string[], nodes: readonly NodeProto[] = []): ModelProto => {
  const graph = model.graph ?? createGraph({});
  return createModel({
    ...model,
    graph: createGraph({ ...graph, node: [...graph.node, ...nodes], output: names.map(untyped) }),
  });
};

/** Types and shapes of these tensors, as far as ONNX Runtime can tell; one whose number of axes is unknown looks like a scalar. */
const tellSpecs = async (model: ModelProto, names: readonly string[], nodes?: readonly NodeProto[]) => {
  const session = await open(encodeModel(withOutputs(model, names, nodes)));
  await session.dispose();
  return session.outputs.map(({ name, dtype, shape }) => {
    const sizes = shape.map((size) => (typeof size === 'number' ? size : null));
    return { name, dtype, shape: sizes };
  });
};

/** Which of these tensors have an unknown number of axes: the length of their shape is not known either. */
const findRankless = async (model: ModelProto, names: readonly string[]): Promise<ReadonlySet<string>> => {
  if (names.length === 0) return new Set();
  const nodes = names.map((name) =>
    createNode({ name: `${name}@shape`, opType: 'Shape', input: [name], output: [`${name}@shape`] }),
  );
  const lengths = await tellSpecs(
    model,
    nodes.flatMap(({ output }) => output),
    nodes,
  );
  return new Set(names.filter((_, i) => lengths[i]?.shape[0] === null));
};

/** Types and shapes of all tensors that nodes make, by name. */
export const inferSpecs = async (model: ModelProto): Promise<ReadonlyMap<string, OpenSpec>> => {
  const nodes = model.graph?.node ?? [];
  const names = new Set(nodes.flatMap(({ output }) => output.filter((name) => name !== '')));
  const specs = await tellSpecs(model, [...names]);
  const rankless = await findRankless(
    model,
    specs.flatMap(({ name, shape }) => (shape.length === 0 ? [name] : [])),
  );
  return new Map(specs.map((spec) => [spec.name, rankless.has(spec.name) ? { ...spec, shape: null } : spec]));
};

const hasSubgraph = ({ attribute }: NodeProto): boolean =>
  attribute.some(({ g, graphs }) => g !== undefined || graphs.length > 0);

/** Nodes that compute tensors of open sizes from constants alone. */
const findComputable = (graph: GraphProto, specs: ReadonlyMap<string, OpenSpec>): readonly NodeProto[] => {
  const constants = new Set(['', ...graph.initializer.map(({ name }) => name)]);
  const isOpen = (name: string): boolean => {
    const spec = specs.get(name);
    return spec !== undefined && !isKnownSpec(spec);
  };
  return graph.node.filter((node) => {
    const found = node.input.every((name) => constants.has(name)) && node.output.some(isOpen) && !hasSubgraph(node);
    if (found) for (const name of node.output) constants.add(name);
    return found;
  });
};

const compute = async (model: ModelProto, nodes: readonly NodeProto[]): Promise<readonly TensorProto[]> => {
  const read = new Set(nodes.flatMap(({ input }) => input));
  const names = nodes.flatMap(({ output }) => output.filter((name) => name !== ''));
  const initializer = (model.graph?.initializer ?? []).filter(({ name }) => read.has(name));
  const graph = createGraph({ name: 'constants', node: [...nodes], initializer });
  const session = await open(encodeModel(withOutputs(createModel({ ...model, graph }), names)));
  try {
    return Object.entries(await session.run({})).map(([name, { dtype, shape, data }]) =>
      createTensor({ name, dataType: DTYPES[dtype].code, dims: shape.map(BigInt), rawData: data.slice() }),
    );
  } catch (error) {
    throw refused('cannot compute constants of the model', error);
  } finally {
    await session.dispose();
  }
};

/**
 * Computes the tensors of open sizes that depend on constants alone.
 * @returns the model with these as initializers; undefined where there are none
 * @throws TandemError MODEL_REFUSED with what ONNX Runtime says
 */
export const computeOpen = async (
  model: ModelProto,
  specs: ReadonlyMap<string, OpenSpec>,
): Promise<ModelProto | undefined> => {
  const { graph } = model;
  const nodes = graph ? findComputable(graph, specs) : [];
  if (!graph || nodes.length === 0) return undefined;
  const found = new Set(nodes);
  return createModel({
    ...model,
    graph: createGraph({
      ...graph,
      node: graph.node.filter((node) => !found.has(node)),
      initializer: [...graph.initializer, ...(await compute(model, nodes))],
    }),
  });
};
