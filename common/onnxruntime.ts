/** The one place that imports `onnxruntime-node`. */
import * as ort from 'onnxruntime-node';
import { TandemError } from './errors.js';
import { plainMessage } from './plain-message.js';
import { DTYPES, type DType, type HostTensor } from './tensor.js';

// Since 1.30 ONNX Runtime reports usage to its makers and leaves logs in the temporary directory, unless told not to before
// its first session. A user who wants that sets the variable to 0.
process.env.ORT_DISABLE_TELEMETRY ??= '1';

export type Provider = 'cpu' | 'cuda' | 'webgpu' | 'dml' | 'coreml';
export const PROVIDERS: readonly Provider[] = ['cpu', 'cuda', 'webgpu', 'dml', 'coreml'];

export const ONNXRUNTIME_VERSION: string = ort.env.versions.node ?? ort.env.versions.common;

/** How a session is opened. */
export interface SessionOptions {
  readonly provider: Provider;
  /** Index of the device among those of its provider; unused by `cpu`. */
  readonly deviceId?: number;
  /** Threads of one operator; ONNX Runtime's default (all cores) where absent. */
  readonly threads?: number;
  readonly optimization: 'disabled' | 'basic' | 'extended' | 'layout' | 'all';
  /** As the only session of its process, with ONNX Runtime's own defaults: memory arena, memory pattern, spinning threads. */
  readonly alone?: boolean;
  /** Write the optimised graph here. */
  readonly optimizedModelPath?: string;
  /** Further `session.*` and `optimization.*` entries by their ONNX Runtime names. */
  readonly entries?: Readonly<Record<string, string>>;
  /** Optimisers by name that must not run. */
  readonly disabledOptimizers?: readonly string[];
  /**
   * Outputs that stay in the device's memory, for other sessions of this process to read there (`staysOnDevice` says which can). They are
   * to be had by `bind`, as an `OpenTensor`; `run` cannot read them.
   */
  readonly kept?: readonly string[];
}

/** A loaded graph. `run` blocks its thread for as long as the graph runs. */
export interface Session {
  readonly inputs: readonly TensorMetadata[];
  readonly outputs: readonly TensorMetadata[];
  /**
   * @param feeds every input by name
   * @param fetches the outputs wanted; all of them where absent
   */
  run(feeds: Readonly<Record<string, HostTensor>>, fetches?: readonly string[]): Promise<Record<string, HostTensor>>;
  dispose(): Promise<void>;
}

/** Runs a session on the memory that it is bound to. */
export type BoundRun = () => Promise<void>;

/**
 * A place for a tensor whose size is not known beforehand, or that stays on its device: what the last run wrote there is what the
 * next one reads.
 */
export class OpenTensor {
  #held: ort.Tensor | undefined;

  get held(): ort.Tensor | undefined {
    return this.#held;
  }

  /** What was there before is given up: the device's memory is freed by nobody else. */
  hold(tensor: ort.Tensor | undefined): void {
    if (this.#held?.location === 'gpu-buffer') this.#held.dispose();
    this.#held = tensor;
  }
}

/** Providers whose binding leaves outputs in the device's memory and takes them from there, and the types for which it does. */
const KEEPING: ReadonlySet<Provider> = new Set(['webgpu']);
const KEEPABLE: ReadonlySet<DType> = new Set(['float32', 'float16', 'int32', 'int64', 'uint32', 'uint8', 'bool']);

/** Whether outputs of this type can be `kept`. */
export const staysOnDevice = (provider: Provider, dtype: DType): boolean =>
  KEEPING.has(provider) && KEEPABLE.has(dtype);

/** Memory by the names of a session's inputs or outputs. */
export type Bound = Readonly<Record<string, HostTensor | OpenTensor>>;

/** A session in this thread. */
export interface LocalSession extends Session {
  /**
   * Ties the session to memory, once for many runs: each reads `feeds` as they are then and writes into `outputs`, which have
   * the types and shapes of the outputs wanted. Nothing is copied, and the memory must not be a `SharedArrayBuffer`.
   */
  bind(feeds: Bound, outputs: Bound): BoundRun;
}

/** Like `TensorSpec`, but a dim may still be symbolic. */
export interface TensorMetadata {
  readonly name: string;
  readonly dtype: DType;
  readonly shape: readonly (number | string)[];
}

type OrtData = ort.Tensor['data'];
type OrtConstructor = new (buffer: ArrayBufferLike, offset: number, length: number) => OrtData;

const CONSTRUCTORS: Readonly<Record<DType, OrtConstructor>> = {
  float32: Float32Array,
  uint8: Uint8Array,
  int8: Int8Array,
  uint16: Uint16Array,
  int16: Int16Array,
  int32: Int32Array,
  int64: BigInt64Array,
  bool: Uint8Array,
  float16: Uint16Array,
  float64: Float64Array,
  uint32: Uint32Array,
  uint64: BigUint64Array,
  bfloat16: Uint16Array,
} as unknown as Record<DType, OrtConstructor>;

/**
 * Where there is a `Float16Array` (Node 23 and newer), ONNX Runtime's JavaScript turns the data of every float16 tensor into one, of
 * which its binding then reads a length of 0 (https://github.com/microsoft/onnxruntime/pull/32323). Uint16Array is what the binding
 * reads on every Node, so the tensor keeps the view that it was given.
 */
const keepView = (tensor: ort.Tensor, view: OrtData): ort.Tensor =>
  tensor.data === view ? tensor : Object.defineProperty(tensor, 'data', { value: view });

const toOrt = (tensor: HostTensor): ort.Tensor => {
  const { bytes } = DTYPES[tensor.dtype];
  const aligned = tensor.data.byteOffset % bytes === 0 ? tensor.data : tensor.data.slice();
  const view = new CONSTRUCTORS[tensor.dtype](aligned.buffer, aligned.byteOffset, aligned.byteLength / bytes);
  return keepView(new ort.Tensor(tensor.dtype as ort.Tensor.Type, view as never, tensor.shape), view);
};

/** A tensor that is not aligned would be copied, and what is bound is the memory itself. */
const checkAligned = ({ dtype, data }: HostTensor): void => {
  const { bytes } = DTYPES[dtype];
  if (data.byteOffset % bytes !== 0)
    throw new RangeError(`Expected ${dtype} memory at a multiple of ${bytes} bytes; found it at ${data.byteOffset}.`);
};

const allToOrt = (tensors: Readonly<Record<string, HostTensor>>): Record<string, ort.Tensor> =>
  Object.fromEntries(Object.entries(tensors).map(([name, tensor]) => [name, toOrt(tensor)]));

const fromOrt = (tensor: ort.Tensor): HostTensor => {
  const view = tensor.data as unknown as ArrayBufferView;
  return {
    dtype: tensor.type as DType,
    shape: tensor.dims,
    data: new Uint8Array(view.buffer as ArrayBuffer, view.byteOffset, view.byteLength),
  };
};

const toMetadata = (metadata: ort.InferenceSession.ValueMetadata): TensorMetadata => {
  if (!metadata.isTensor)
    throw new TandemError('MODEL_TYPE', `"${metadata.name}" is not a tensor; only tensors can be inputs and outputs.`);
  return { name: metadata.name, dtype: metadata.type as DType, shape: metadata.shape };
};

/** Providers that choose among several devices; the others refuse the option or have only one. */
const WITH_DEVICE_ID: ReadonlySet<Provider> = new Set(['cuda', 'dml']);

const executionProvider = (options: SessionOptions): ort.InferenceSession.ExecutionProviderConfig =>
  WITH_DEVICE_ID.has(options.provider)
    ? ({ name: options.provider, deviceId: options.deviceId ?? 0 } as ort.InferenceSession.ExecutionProviderConfig)
    : { name: options.provider };

/** Advice for a provider that cannot run here. */
const PROVIDER_ADVICE: Readonly<Record<Provider, string>> = {
  cpu: 'reinstall onnxruntime-node.',
  cuda: 'CUDA needs Linux on x64, an NVIDIA driver, CUDA 12 with cuDNN 9, and the libraries that `npm rebuild onnxruntime-node --onnxruntime-node-install=cuda12` downloads.',
  webgpu:
    'WebGPU needs a GPU with a driver that ONNX Runtime can reach: Vulkan (libvulkan.so.1) on Linux, Direct3D 12 on Windows, Metal on macOS.',
  dml: 'DirectML exists on Windows only; use "cpu", "cuda" or "webgpu" here.',
  coreml: 'CoreML exists on macOS only; use "cpu", "cuda" or "webgpu" here.',
};

/** A provider cannot run on this machine; says why and what would make it work. */
export const providerUnavailable = (provider: Provider, found: string, cause?: unknown): TandemError =>
  new TandemError(
    'PROVIDER_UNAVAILABLE',
    `Provider "${provider}" cannot run on this machine: ${found.replace(/\.$/, '')}. ${PROVIDER_ADVICE[provider]}`,
    {
      cause,
    },
  );

/**
 * Whether a provider and a device index make sense here, as far as can be known before a session is opened.
 * @throws TandemError `PROVIDER_UNAVAILABLE` or `PROVIDER_DEVICE`
 */
export const checkProvider = (provider: Provider, deviceId: number): void => {
  const names = ort.listSupportedBackends().map((backend) => backend.name);
  if (!names.includes(provider)) {
    throw providerUnavailable(provider, `this build of ONNX Runtime has ${names.join(', ')}`);
  }
  if (deviceId !== 0 && provider !== 'cpu' && !WITH_DEVICE_ID.has(provider)) {
    throw new TandemError(
      'PROVIDER_DEVICE',
      `Provider "${provider}" always takes the system's first device, but device ${deviceId} was asked for; use device 0, or "cuda" or "dml" to choose among several.`,
    );
  }
};

/** Many sessions share a rank's threads and memory, so none may spin while it waits or keep what it allocated. */
const SHARING_ENTRIES = { 'session.intra_op.allow_spinning': '0', 'session.inter_op.allow_spinning': '0' };

const extraEntries = ({ alone, entries, disabledOptimizers }: SessionOptions): Readonly<Record<string, string>> => ({
  ...(alone ? {} : SHARING_ENTRIES),
  ...entries,
  ...(disabledOptimizers?.length ? { 'optimization.disable_specified_optimizers': disabledOptimizers.join(';') } : {}),
});

/** What ONNX Runtime does, with its failures in words for people. */
const plainly = async <T>(work: Promise<T>): Promise<T> => {
  try {
    return await work;
  } catch (cause) {
    throw new Error(plainMessage(cause instanceof Error ? cause.message : String(cause)), { cause });
  }
};

const openOf = (tensors: Bound): readonly (readonly [string, OpenTensor])[] =>
  Object.entries(tensors).flatMap(([name, tensor]) => (tensor instanceof OpenTensor ? [[name, tensor] as const] : []));

const settledOf = (tensors: Bound): Record<string, ort.Tensor> => {
  const settled = Object.entries(tensors).flatMap(([name, tensor]) =>
    tensor instanceof OpenTensor ? [] : [[name, tensor] as const],
  );
  for (const [, tensor] of settled) checkAligned(tensor);
  return allToOrt(Object.fromEntries(settled));
};

const heldIn = (name: string, { held }: OpenTensor): ort.Tensor => {
  if (held !== undefined) return held;
  throw new RangeError(`Expected "${name}" to have been made by an earlier session; it was not.`);
};

/** Copies what a run has made to where it is wanted. */
const copyOut = (made: ort.InferenceSession.OnnxValueMapType, outputs: Bound): void => {
  for (const [name, place] of Object.entries(outputs)) {
    const tensor = made[name];
    if (!(tensor instanceof ort.Tensor)) continue;
    if (place instanceof OpenTensor) place.hold(tensor);
    else place.data.set(fromOrt(tensor).data);
  }
};

/** @param copies whether the binding makes outputs anew, as it does where some are kept, instead of writing into those given */
const bindSession = (session: ort.InferenceSession, feeds: Bound, outputs: Bound, copies: boolean): BoundRun => {
  const [given, wanted] = [settledOf(feeds), settledOf(outputs)];
  const [openFeeds, openOutputs] = [openOf(feeds), openOf(outputs)];
  const fetches = { ...wanted, ...Object.fromEntries(openOutputs.map(([name]) => [name, null])) };
  const made = copies ? outputs : Object.fromEntries(openOutputs);
  if (openFeeds.length + openOutputs.length === 0)
    return async () => {
      await plainly(session.run(given, wanted));
    };
  return async () => {
    const all = { ...given, ...Object.fromEntries(openFeeds.map(([name, place]) => [name, heldIn(name, place)])) };
    copyOut(await plainly(session.run(all, fetches)), made);
  };
};

const locations = (kept: readonly string[]): ort.InferenceSession.SessionOptions =>
  kept.length === 0
    ? {}
    : { preferredOutputLocation: Object.fromEntries(kept.map((name) => [name, 'gpu-buffer' as const])) };

/**
 * Opens a graph from a file or from its bytes.
 * @throws whatever ONNX Runtime says of the graph, as an `Error`
 */
export const openSession = async (model: string | Uint8Array, options: SessionOptions): Promise<LocalSession> => {
  const { kept = [] } = options;
  const opening = ort.InferenceSession.create(model as string, {
    executionProviders: [executionProvider(options)],
    graphOptimizationLevel: options.optimization,
    enableCpuMemArena: options.alone ?? false,
    enableMemPattern: options.alone ?? false,
    logSeverityLevel: 3,
    ...(options.threads === undefined ? {} : { intraOpNumThreads: options.threads, interOpNumThreads: 1 }),
    ...(options.optimizedModelPath === undefined ? {} : { optimizedModelFilePath: options.optimizedModelPath }),
    ...locations(kept),
    extra: extraEntries(options),
  });
  const session = await plainly(opening);
  return {
    inputs: session.inputMetadata.map(toMetadata),
    outputs: session.outputMetadata.map(toMetadata),
    async run(feeds, fetches) {
      const results = await plainly(fetches ? session.run(allToOrt(feeds), fetches) : session.run(allToOrt(feeds)));
      return Object.fromEntries(Object.entries(results).map(([name, tensor]) => [name, fromOrt(tensor)]));
    },
    bind: (feeds, outputs) => bindSession(session, feeds, outputs, kept.length > 0),
    dispose: () => session.release(),
  };
};
