/** Finds the operator at which a provider's results leave those of the CPU. */
import { readFile, rm, writeFile } from 'node:fs/promises';
import { compareOutputs } from '../../common/compare.js';
import { openSession, type Provider } from '../../common/onnxruntime.js';
import type { HostTensor } from '../../common/tensor.js';
import {
  createGraph,
  createModel,
  createValueInfo,
  decodeModel,
  encodeModel,
  type ModelProto,
  type ValueInfoProto,
} from '../onnx/index.js';

type Tensors = Readonly<Record<string, HostTensor>>;

export interface FirstWrong {
  readonly node: string;
  readonly operator: string;
  /** Types and shapes, such as `float32 [2, 18, 8, 8]`; of constants the names. */
  readonly inputs: readonly string[];
  readonly output: string;
  /** max |a - b| / max |b| */
  readonly error: number;
}

/** An output declaration without a type: ONNX Runtime fills it in. */
const untyped = (name: string): ValueInfoProto => {
  const { type: _, ...rest } = createValueInfo(name, 0, undefined);
  return rest as ValueInfoProto;
};

/** The same graph with everything that its nodes make as an output. */
const withAllOutputs = (model: ModelProto): ModelProto => {
  const graph = model.graph ?? createGraph({});
  const names = graph.node.flatMap(({ output }) => output.filter((name) => name !== ''));
  return createModel({ ...model, graph: createGraph({ ...graph, output: names.map(untyped) }) });
};

const run = async (
  path: string,
  feeds: Tensors,
  device: { provider: Provider; deviceId: number },
): Promise<Tensors> => {
  const session = await openSession(path, { ...device, optimization: 'disabled' });
  try {
    return await session.run(feeds);
  } finally {
    await session.dispose();
  }
};

const describe = (tensor: HostTensor): string => `${tensor.dtype} [${tensor.shape.join(', ')}]`;

/** @returns undefined where every operator by itself agrees */
const firstWrong = (
  model: ModelProto,
  known: Tensors,
  found: Tensors,
  expected: Tensors,
  tolerance: number,
): FirstWrong | undefined => {
  for (const { name, opType, input, output } of model.graph?.node ?? []) {
    for (const made of output) {
      const [a, b] = [found[made], expected[made]];
      if (a === undefined || b === undefined) continue;
      const error = compareOutputs({ made: a }, { made: b }).max_rel_error;
      if (error <= tolerance) continue;
      const inputs = input.map((one) => {
        const tensor = expected[one] ?? known[one];
        return tensor ? describe(tensor) : `"${one}"`;
      });
      return { node: name, operator: opType, inputs, output: describe(b), error };
    }
  }
  return undefined;
};

/**
 * Runs a graph on a provider and on the CPU, and compares what each of its nodes makes, in their order.
 * @param path an `.onnx` file; a copy is written beside it, since its weights' files must be, and removed
 * @throws NodeJS.ErrnoException where nothing can be written there; whatever ONNX Runtime says of the graph
 */
export const findFirstWrong = async (
  path: string,
  feeds: Tensors,
  device: { readonly provider: Provider; readonly deviceId: number },
  tolerance: number,
): Promise<FirstWrong | undefined> => {
  const model = decodeModel(await readFile(path));
  const copy = `${path}.all-${process.pid}.onnx`;
  await writeFile(copy, encodeModel(withAllOutputs(model)));
  try {
    const expected = await run(copy, feeds, { provider: 'cpu', deviceId: 0 });
    const found = await run(copy, feeds, device);
    return firstWrong(model, feeds, found, expected, tolerance);
  } finally {
    await rm(copy, { force: true });
  }
};
