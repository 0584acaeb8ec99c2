/** Runs a sample whole, and a row of it on shards, in ONNX Runtime. */

import { toNumbers } from '#tandem/common/elements.js';
import { openSession, type Session } from '#tandem/common/onnxruntime.js';
import { DTYPES, type HostTensor } from '#tandem/common/tensor.js';
import type { Node, Value } from '#tandem/partition/graph/graph.js';
import { REPLICATE } from '#tandem/partition/graph/placement.js';
import { Tape } from '#tandem/partition/graph/tape.js';
import {
  createGraph,
  createModel,
  createNode,
  createTensor,
  createValueInfo,
  encodeModel,
  type NodeProto,
} from '#tandem/partition/onnx/index.js';
import type { Row } from '#tandem/partition/rules/rule.js';
import { localise } from '#tandem/partition/segments/localise.js';
import type { Sample } from './sample.js';

type Tensors = readonly (HostTensor | undefined)[];

/** A sample with the node that the rules see, and its whole results. */
export interface Prepared {
  readonly sample: Sample;
  readonly node: Node;
  readonly inputs: Tensors;
  readonly outputs: Tensors;
}

/** A graph of one node and what its result goes through: what is in `constants` is an initializer, what is in `feeds` an input. */
interface OneNode {
  readonly protos: readonly NodeProto[];
  readonly opset: number;
  readonly feeds: ReadonlyMap<string, HostTensor>;
  readonly constants: ReadonlyMap<string, HostTensor>;
}

const IR_VERSION = 10n;

const encode = ({ protos, opset, feeds, constants }: OneNode): Uint8Array =>
  encodeModel(
    createModel({
      irVersion: IR_VERSION,
      opsetImport: [
        { domain: '', version: BigInt(opset) },
        { domain: 'com.microsoft', version: 1n },
      ],
      graph: createGraph({
        name: 'sample',
        node: [...protos],
        input: [...feeds].map(([name, { dtype, shape }]) => createValueInfo(name, DTYPES[dtype].code, shape)),
        // ONNX Runtime finds out the outputs' types.
        output: protos.flatMap(({ output }) => output.filter((name) => /^y\d+$/.test(name)).map((name) => ({ name }))),
        initializer: [...constants].map(([name, { dtype, shape, data }]) =>
          createTensor({ name, dataType: DTYPES[dtype].code, dims: shape.map(BigInt), rawData: data }),
        ),
      }),
    }),
  );

/** Opens each graph once: many rows of a sample make the same one. */
export class Runner {
  readonly #sessions = new Map<string, Promise<Session>>();

  async run(graph: OneNode): Promise<Record<string, HostTensor>> {
    const bytes = encode(graph);
    const key = Buffer.from(bytes).toString('latin1');
    const opening =
      this.#sessions.get(key) ?? openSession(bytes, { provider: 'cpu', optimization: 'disabled', threads: 1 });
    this.#sessions.set(key, opening);
    const session = await opening;
    return session.run(Object.fromEntries(graph.feeds));
  }

  async close(): Promise<void> {
    for (const session of await Promise.allSettled(this.#sessions.values())) {
      if (session.status === 'fulfilled') await session.value.dispose();
    }
  }
}

const makeNode = (sample: Sample, outputs: Tensors): Node => {
  const [domain, op] = sample.op.includes('::') ? sample.op.split('::') : ['', sample.op];
  const toValue = (name: string, tensor: HostTensor | undefined, isConstant: boolean): Value | undefined =>
    tensor && {
      name,
      dtype: tensor.dtype,
      shape: tensor.shape,
      ...(isConstant ? { constant: { kind: 'inline', data: tensor.data } } : {}),
    };
  return {
    name: 'node',
    op: op ?? '',
    domain: domain ?? '',
    attributes: new Map(sample.attributes.map((attribute) => [attribute.name, attribute])),
    inputs: sample.inputs.map((input, i) => toValue(`x${i}`, input?.tensor, input?.isConstant ?? false)),
    outputs: outputs.map((tensor, i) => toValue(`y${i}`, tensor, false)),
  };
};

const toProto = ({ op, domain, attributes, inputs, outputs }: Node): NodeProto => {
  const names = (values: Node['inputs']) => values.map((value) => value?.name ?? '');
  const attribute = [...attributes.values()];
  return createNode({ opType: op, domain, input: names(inputs), output: names(outputs), attribute });
};

/** What nobody has run yet has no type. */
const outputsOf = ({ outputs }: Node, present: readonly boolean[]): Node['outputs'] =>
  present.map((isPresent, i) =>
    isPresent ? (outputs[i] ?? { name: `y${i}`, dtype: 'float32', shape: undefined }) : undefined,
  );

const isLocalised = (value: Value | undefined, given: Node['inputs']): value is Value =>
  value?.constant?.kind === 'inline' && !given.includes(value);

/**
 * Runs a sample's node on one rank, with the constants that the rank needs.
 * @param inputs as the row gives them to the rank; of constants that are whole, the whole ones
 */
export const runLocal = async (
  runner: Runner,
  { sample, node }: Pick<Prepared, 'sample' | 'node'>,
  row: Row,
  rank: number,
  inputs: Tensors,
): Promise<Tensors> => {
  const outputs = outputsOf(node, sample.outputs);
  const tape = new Tape();
  localise(tape, node, row, rank, { inputs: node.inputs, outputs });
  const nodes = tape.take();
  const protos = nodes.map(toProto);
  const feeds = new Map<string, HostTensor>();
  const constants = new Map<string, HostTensor>();
  inputs.forEach((tensor, i) => {
    if (!tensor || !protos.some(({ input }) => input.includes(`x${i}`))) return;
    (sample.inputs[i]?.isConstant ? constants : feeds).set(`x${i}`, tensor);
  });
  for (const value of nodes.flatMap((local) => local.inputs)) {
    if (!isLocalised(value, node.inputs) || value.constant?.kind !== 'inline') continue;
    constants.set(value.name, { dtype: value.dtype, shape: value.shape ?? [], data: value.constant.data });
  }
  const results = await runner.run({ protos, opset: sample.opset, feeds, constants });
  return outputs.map((value) => value && results[value.name]);
};

export const replicateRow = (node: Pick<Node, 'inputs' | 'outputs'>): Row => ({
  inputs: node.inputs.map(() => REPLICATE),
  outputs: node.outputs.map(() => REPLICATE),
});

/** Runs a sample whole, which tells the types and shapes of its outputs. */
export const prepare = async (runner: Runner, sample: Sample): Promise<Prepared> => {
  const inputs = sample.inputs.map((input) => input?.tensor);
  const draft = makeNode(sample, []);
  const outputs = await runLocal(
    runner,
    { sample, node: draft },
    { inputs: replicateRow(draft).inputs, outputs: sample.outputs.map(() => REPLICATE) },
    0,
    inputs,
  );
  return { sample, node: makeNode(sample, outputs), inputs, outputs };
};

/** max |a - b| / max |b|; infinite where shapes or types differ. The same infinity or NaN on both sides is agreement. */
export const difference = (actual: HostTensor | undefined, expected: HostTensor): number => {
  if (actual?.dtype !== expected.dtype || actual.shape.join() !== expected.shape.join())
    return Number.POSITIVE_INFINITY;
  const [a, b] = [toNumbers(actual), toNumbers(expected)];
  const peak = b.reduce((largest, value) => (Number.isFinite(value) ? Math.max(largest, Math.abs(value)) : largest), 0);
  const worst = b.reduce((largest, value, i) => {
    if (Object.is(a[i], value)) return largest;
    const error = Math.abs((a[i] ?? Number.NaN) - value);
    return Number.isNaN(error) ? Number.POSITIVE_INFINITY : Math.max(largest, error);
  }, 0);
  return worst === 0 ? 0 : worst / Math.max(peak, Number.MIN_VALUE);
};
