/**
 * How ONNX Runtime lays out weights on this machine's processor: convolution weights are reordered in blocks as wide as its
 * vector registers, and nothing in an optimised graph says how wide. So ONNX Runtime is asked, by way of a small graph. Whether
 * int8 weights keep their sign depends on the processor too (`save.ts`).
 */
import { createHash } from 'node:crypto';
import { mkdtemp, readFile, rm } from 'node:fs/promises';
import { arch, tmpdir } from 'node:os';
import { join } from 'node:path';
import type { Provider } from '../../../common/onnxruntime.js';
import {
  createGraph,
  createModel,
  createNode,
  createTensor,
  createValueInfo,
  DataType,
  decodeModel,
  encodeModel,
  intAttribute,
  type ModelProto,
} from '../../onnx/index.js';
import { tensorBytes } from '../../read/tensor-bytes.js';
import { sumsAreExact } from './integer-sums.js';
import { saveOptimised } from './save.js';

/** A multiple of every block size that ONNX Runtime has, so that no weight needs padding. */
const CHANNELS = 64;
/** Small enough for the weights to stay in the saved graph. */
const CONVOLUTIONS = [
  { name: 'pointwise', outputs: CHANNELS, kernel: 1, group: 1 },
  { name: 'spatial', outputs: CHANNELS, kernel: 3, group: 1 },
  { name: 'depthwise', outputs: CHANNELS, kernel: 3, group: CHANNELS },
] as const;

const probeWeight = ({ name, outputs, kernel, group }: (typeof CONVOLUTIONS)[number]) => {
  const dims = [outputs, CHANNELS / group, kernel, kernel];
  const values = Float32Array.from({ length: dims.reduce((a, b) => a * b, 1) }, (_, index) => index);
  return createTensor({
    name,
    dims: dims.map(BigInt),
    dataType: DataType.FLOAT,
    rawData: new Uint8Array(values.buffer),
  });
};

/** Each kind of convolution, once, over the same input. Every weight element differs, so that any reordering shows. */
const probe = (): Uint8Array =>
  encodeModel(
    createModel({
      irVersion: 8n,
      opsetImport: [{ domain: '', version: 17n }],
      graph: createGraph({
        name: 'probe',
        node: CONVOLUTIONS.map(({ name, group }) =>
          createNode({
            name,
            opType: 'Conv',
            input: ['x', name],
            output: [`${name} output`],
            attribute: [intAttribute('group', group)],
          }),
        ),
        initializer: CONVOLUTIONS.map(probeWeight),
        input: [createValueInfo('x', DataType.FLOAT, [1, CHANNELS, 8, 8])],
        output: CONVOLUTIONS.map(({ name, outputs, kernel }) =>
          createValueInfo(`${name} output`, DataType.FLOAT, [1, outputs, 9 - kernel, 9 - kernel]),
        ),
      }),
    }),
  );

/** Operators and weights of a graph, without the names that ONNX Runtime makes up. */
const describe = ({ graph }: ModelProto, exactSums: boolean): string => {
  const nodes = (graph?.node ?? []).map(({ domain, opType }) => `${domain}:${opType}`).sort();
  const weights = (graph?.initializer ?? []).map((tensor) => {
    const digest = createHash('sha256').update(tensorBytes(tensor)).digest('hex');
    return `${tensor.dataType} [${tensor.dims}] ${digest}`;
  });
  return JSON.stringify([arch(), nodes, weights.sort(), exactSums]);
};

/**
 * Digest of what ONNX Runtime makes of one convolution of each kind, and of whether int8 sums are exact. Takes some 30 ms;
 * `known-layout.ts` remembers it.
 * @throws whatever ONNX Runtime says, as an `Error`
 */
export const probeLayout = async (provider: Provider): Promise<string> => {
  const folder = await mkdtemp(join(tmpdir(), 'tandem-probe-'));
  try {
    const graph = join(folder, 'probe.onnx');
    await saveOptimised(probe(), provider, { graph });
    return createHash('sha256')
      .update(describe(decodeModel(await readFile(graph)), await sumsAreExact()))
      .digest('hex');
  } finally {
    await rm(folder, { recursive: true, force: true });
  }
};
