/** Small models for tests of the partitioner's stages: a few nodes with seeded weights, written as a file. */
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { compareOutputs } from '#tandem/common/compare.js';
import { fromNumbers } from '#tandem/common/elements.js';
import { openSession } from '#tandem/common/onnxruntime.js';
import { DTYPES, type DType, elementCount, type HostTensor } from '#tandem/common/tensor.js';
import { createRandomStream } from '#tandem/coordinator/pipeline/random.js';
import { randomInputs } from '#tandem/coordinator/verify/random-inputs.js';
import { type Manifest, partition, type Split, type SplitRequest } from '#tandem/partition/index.js';
import {
  type AttributeProto,
  createGraph,
  createModel,
  createNode,
  createTensor,
  createValueInfo,
  encodeModel,
  type TensorProto,
} from '#tandem/partition/onnx/index.js';
import { runShards } from './run-shards.js';
import { inDirectory } from './stages.js';

export interface SmallNode {
  readonly op: string;
  readonly inputs: readonly string[];
  readonly outputs: readonly string[];
  readonly attributes?: readonly AttributeProto[];
  readonly domain?: string;
}

export interface SmallModel {
  readonly inputs: Readonly<Record<string, readonly (number | string)[]>>;
  /** Weights of normal values by shape; constants of whole numbers are in `ints`. */
  readonly weights?: Readonly<Record<string, readonly number[]>>;
  readonly ints?: Readonly<Record<string, readonly number[]>>;
  readonly nodes: readonly SmallNode[];
  readonly outputs: readonly string[];
  readonly opset?: number;
  /** Domains of operators that are neither ONNX's own nor ONNX Runtime's. */
  readonly domains?: readonly string[];
  readonly irVersion?: number;
  /** Initializers that are declared as inputs too, as IR versions before 4 want. */
  readonly declared?: readonly string[];
}

export const node = (
  op: string,
  inputs: readonly string[],
  output: string,
  ...attributes: AttributeProto[]
): SmallNode => ({
  op,
  inputs,
  outputs: [output],
  attributes,
});

const toTensor = (name: string, dtype: DType, shape: readonly number[], values: ArrayLike<number>): TensorProto =>
  createTensor({
    name,
    dataType: DTYPES[dtype].code,
    dims: shape.map(BigInt),
    rawData: fromNumbers({ dtype, shape }, values).data,
  });

/** Small enough that sums of products stay near 1. */
const weightTensor = (name: string, shape: readonly number[], seed: number): TensorProto =>
  toTensor(
    name,
    'float32',
    shape,
    createRandomStream(seed)
      .normal(elementCount(shape))
      .map((value) => value / 4),
  );

/** Writes `model.onnx`. @returns its path */
export const writeSmallModel = (directory: string, model: SmallModel): string => {
  const weights = Object.entries(model.weights ?? {});
  const path = join(directory, 'model.onnx');
  const bytes = encodeModel(
    createModel({
      irVersion: BigInt(model.irVersion ?? 8),
      opsetImport: [
        { domain: '', version: BigInt(model.opset ?? 17) },
        ...['com.microsoft', ...(model.domains ?? [])].map((domain) => ({ domain, version: 1n })),
      ],
      graph: createGraph({
        name: 'small',
        node: model.nodes.map(({ op, inputs, outputs, attributes = [], domain = '' }, i) =>
          createNode({
            name: `${op}-${i}`,
            opType: op,
            domain,
            input: [...inputs],
            output: [...outputs],
            attribute: [...attributes],
          }),
        ),
        input: [
          ...Object.entries(model.inputs).map(([name, shape]) => createValueInfo(name, DTYPES.float32.code, shape)),
          ...(model.declared ?? []).map((name) =>
            createValueInfo(name, DTYPES.float32.code, model.weights?.[name] ?? []),
          ),
        ],
        output: model.outputs.map((name) => createValueInfo(name, DTYPES.float32.code, undefined)),
        initializer: [
          ...weights.map(([name, shape], i) => weightTensor(name, shape, i + 1)),
          ...Object.entries(model.ints ?? {}).map(([name, values]) => toTensor(name, 'int64', [values.length], values)),
        ],
      }),
    }),
  );
  writeFileSync(path, bytes);
  return path;
};

export interface Outcome {
  /** max |a - b| / max |b| over all outputs and ranks */
  readonly error: number;
  /** Of each rank, by name. */
  readonly outputs: readonly Readonly<Record<string, HostTensor>>[];
  readonly manifest: Manifest;
  /** Bytes of rank 0's weights. */
  readonly weightBytes: number;
}

/** Bytes of a model's weights. */
export const weightBytes = ({ weights = {} }: SmallModel): number =>
  Object.values(weights).reduce((sum, shape) => sum + elementCount(shape) * DTYPES.float32.bytes, 0);

/** Splits a model for devices of these speeds, runs it in this process, and compares with the whole model. */
export const runSmallModel = (model: SmallModel, speeds: readonly number[]): Promise<Outcome> =>
  inDirectory(async (directory) => runSplit(writeSmallModel(directory, model), join(directory, 'shards'), speeds));

/** Splits a model into `out`, its segments as they are, and does the same. `dims` are sizes for its symbolic dims. */
export const runSplit = (
  modelPath: string,
  out: string,
  speeds: readonly number[],
  { split = 'tensor', dims = {} }: { readonly split?: Split; readonly dims?: Readonly<Record<string, number>> } = {},
): Promise<Outcome> =>
  runPartition(
    {
      model: { path: modelPath },
      devices: speeds.map((speed) => ({ provider: 'cpu', deviceId: 0, speed })),
      dims,
      wire: 'fp32',
      split,
    },
    out,
  );

/** The same for any request. */
export const runPartition = async (request: SplitRequest, out: string): Promise<Outcome> => {
  const manifest = await partition(request, out);
  const inputs = randomInputs(manifest.profiles[0]?.inputs ?? [], 7);
  const session = await openSession(request.model.path, { provider: 'cpu', optimization: 'all' });
  const expected = await session.run(inputs);
  await session.dispose();
  const outputs = await runShards(out, manifest, inputs);
  const errors = outputs.map((one) => compareOutputs(one, expected).max_rel_error);
  return { error: Math.max(...errors), weightBytes: manifest.ranks[0]?.weight_bytes ?? 0, outputs, manifest };
};
