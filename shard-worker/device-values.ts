/**
 * Which of a rank's values stay in its device's memory. What a segment makes for later segments of the same rank alone is never
 * brought to the host; what is there and is read by several segments, such as the text's embeddings, is taken to the device once
 * a step. What is sent, what has come and what the step gives out crosses the host in any case. Only the WebGPU provider's
 * binding can do that; with the others every input and output of a segment is copied.
 */
import { type LocalSession, openSession, type Provider, staysOnDevice } from '../common/onnxruntime.js';
import { DTYPES, type DType, elementCount, isKnownSpec, type OpenSpec } from '../common/tensor.js';
import type { SegmentEntry } from '../partition/write/manifest.js';

const isEmpty = (spec: OpenSpec): boolean => isKnownSpec(spec) && elementCount(spec.shape) === 0;

/** Names of a segment's outputs that stay. @param given names of what the step gives out */
export const keptOutputs = (entry: SegmentEntry, given: readonly string[], provider: Provider): readonly string[] => {
  const leaving = new Set([...entry.sends.map(({ tensor }) => tensor), ...given]);
  return entry.outputs
    .filter((spec) => !leaving.has(spec.name) && staysOnDevice(provider, spec.dtype) && !isEmpty(spec))
    .map(({ name }) => name);
};

/** Brings tensors of one type to the device: a graph that does nothing, from `host` to `device`. */
const identity = async (dtype: DType): Promise<Uint8Array> => {
  // Loads the protobuf library, which a worker does without otherwise.
  const { createGraph, createModel, createNode, createValueInfo, encodeModel } = await import(
    '../partition/onnx/index.js'
  );
  const of = (name: string) => createValueInfo(name, DTYPES[dtype].code, null);
  const node = createNode({ name: 'up', opType: 'Identity', input: ['host'], output: ['device'] });
  const graph = createGraph({ name: 'up', node: [node], input: [of('host')], output: [of('device')] });
  return encodeModel(createModel({ irVersion: 8n, opsetImport: [{ domain: '', version: 13n }], graph }));
};

/** Sessions that bring tensors to the device, by type. */
export class Uploads {
  readonly #sessions = new Map<DType, LocalSession>();

  /** Makes ready for what a segment reads. */
  async prepare(provider: Provider, deviceId: number, dtypes: Iterable<DType>): Promise<void> {
    for (const dtype of dtypes) {
      if (this.#sessions.has(dtype) || !staysOnDevice(provider, dtype)) continue;
      const device = { provider, deviceId, optimization: 'disabled', kept: ['device'] } as const;
      this.#sessions.set(dtype, await openSession(await identity(dtype), device));
    }
  }

  of(dtype: DType): LocalSession | undefined {
    return this.#sessions.get(dtype);
  }

  async dispose(): Promise<void> {
    for (const session of this.#sessions.values()) await session.dispose();
    this.#sessions.clear();
  }
}
