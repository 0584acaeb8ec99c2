/**
 * What segments are prepared for. An optimised graph is bound to its provider and to the version of ONNX Runtime; on CPUs
 * also to the processor: convolution weights are reordered in blocks as wide as its vector registers, and nothing in the
 * graph says how wide. So ONNX Runtime is asked, by way of a small graph, what it does here.
 */
import { createHash } from 'node:crypto';
import { mkdtemp, readFile, rm } from 'node:fs/promises';
import { arch, tmpdir } from 'node:os';
import { join } from 'node:path';
import type { PreparedFor } from '../manifest.js';
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
} from '../onnx/index.js';
import { ONNXRUNTIME_VERSION, type Provider } from '../onnxruntime.js';
import { tensorBytes } from '../read/tensor-bytes.js';
import { saveOptimised } from './sessions.js';

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
const describe = ({ graph }: ModelProto): string => {
  const nodes = (graph?.node ?? []).map(({ domain, opType }) => `${domain}:${opType}`).sort();
  const weights = (graph?.initializer ?? []).map((tensor) => {
    const digest = createHash('sha256').update(tensorBytes(tensor)).digest('hex');
    return `${tensor.dataType} [${tensor.dims}] ${digest}`;
  });
  return JSON.stringify([arch(), nodes, weights.sort()]);
};

const probeLayout = async (provider: Provider): Promise<string> => {
  const folder = await mkdtemp(join(tmpdir(), 'tandem-probe-'));
  try {
    const graph = join(folder, 'probe.onnx');
    await saveOptimised(probe(), provider, { graph });
    return createHash('sha256')
      .update(describe(decodeModel(await readFile(graph))))
      .digest('hex');
  } finally {
    await rm(folder, { recursive: true, force: true });
  }
};

/** The others' optimised graphs hold what cannot be saved, or nothing worth it: their weights go to the device in any case. */
export const PREPARABLE: ReadonlySet<Provider> = new Set(['cpu']);

/** A machine's processor does not change under a process. */
const layouts = new Map<Provider, Promise<string>>();

const layoutOf = (provider: Provider): Promise<string> => {
  const layout = layouts.get(provider) ?? probeLayout(provider);
  layouts.set(provider, layout);
  return layout;
};

/**
 * What segments for this provider are prepared for on this machine; undefined where the provider takes unprepared ones.
 * Takes a few ms, once.
 */
export const findTarget = async (provider: Provider): Promise<PreparedFor | undefined> =>
  PREPARABLE.has(provider)
    ? { provider, onnxruntime_version: ONNXRUNTIME_VERSION, layout: await layoutOf(provider) }
    : undefined;

const describeTarget = (target: PreparedFor | undefined): string =>
  target
    ? `provider "${target.provider}", ONNX Runtime ${target.onnxruntime_version} and processor layout ${target.layout.slice(0, 8)}`
    : 'no particular provider';

/**
 * Says how what segments were prepared for differs from what is needed; undefined where it does not.
 */
export const targetMismatch = (
  prepared: PreparedFor | undefined,
  needed: PreparedFor | undefined,
): string | undefined =>
  prepared?.provider === needed?.provider &&
  prepared?.onnxruntime_version === needed?.onnxruntime_version &&
  prepared?.layout === needed?.layout
    ? undefined
    : `they were prepared for ${describeTarget(prepared)}, and ${describeTarget(needed)} is needed`;
