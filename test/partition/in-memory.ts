/**
 * Runs what was planned for all ranks in this process, without files, sockets or workers: each segment's graph in a session of
 * its own, what is sent handed over by name. A tenth of the time of `run-shards.ts`, which proves the rest.
 */
import { closeSync, openSync, readSync } from 'node:fs';
import { openSession } from '#tandem/common/onnxruntime.js';
import type { HostTensor } from '#tandem/common/tensor.js';
import type { Programs } from '#tandem/partition/decide/decide.js';
import { sliceTensor, type WeightSlice } from '#tandem/partition/graph/slice.js';
import { cloneTensor, encodeModel, withInitializers } from '#tandem/partition/onnx/index.js';
import type { EmittedSegment } from '#tandem/partition/segments/emit.js';

type Tensors = Readonly<Record<string, HostTensor>>;

const readSource = ({ source }: WeightSlice): HostTensor => {
  if ('data' in source) return source;
  const data = new Uint8Array(source.bytes);
  const fd = openSync(source.file, 'r');
  try {
    readSync(fd, data, 0, source.bytes, source.offset);
  } finally {
    closeSync(fd);
  }
  return { dtype: source.dtype, shape: source.shape, data };
};

/** A slice's own bytes; a scalar has no axis to slice. */
const sliceBytes = (slice: WeightSlice): Uint8Array => {
  const whole = readSource(slice);
  return slice.axis < 0 ? whole.data : sliceTensor(whole, slice.axis, slice.ranges).data;
};

const encode = ({ model, constants }: EmittedSegment): Uint8Array => {
  const slices = new Map(constants.map((slice) => [slice.name, slice]));
  const initializers = (model.graph?.initializer ?? []).map((tensor) => {
    const slice = slices.get(tensor.name);
    if (!slice) return tensor;
    const copy = cloneTensor(tensor);
    copy.rawData = sliceBytes(slice);
    return copy;
  });
  return encodeModel(withInitializers(model, initializers));
};

const runSegment = async (segment: EmittedSegment, held: Map<string, HostTensor>): Promise<void> => {
  const session = await openSession(encode(segment), { provider: 'cpu', optimization: 'disabled', threads: 1 });
  try {
    const feeds = Object.fromEntries(
      segment.inputs.flatMap(({ name }) => {
        const tensor = held.get(name);
        return tensor ? [[name, tensor]] : [];
      }),
    );
    const results = segment.outputs.length > 0 ? await session.run(feeds) : {};
    for (const [name, tensor] of Object.entries(results)) held.set(name, { ...tensor, data: tensor.data.slice() });
  } finally {
    await session.dispose();
  }
};

/** @returns what each rank holds in the end, by name */
export const runInMemory = async (programs: Programs, inputs: Tensors): Promise<readonly Tensors[]> => {
  const ranks = programs.map(() => new Map(Object.entries(inputs)));
  const segments = Math.max(...programs.map((program) => program.length));
  for (let index = 0; index < segments; index++) {
    for (const [rank, program] of programs.entries()) {
      const [segment, held] = [program[index], ranks[rank]];
      if (segment && held) await runSegment(segment, held);
    }
    for (const [rank, program] of programs.entries()) {
      for (const { name, from, tensor } of program[index]?.receives ?? []) {
        const arrived = ranks[from]?.get(tensor);
        if (arrived) ranks[rank]?.set(name, arrived);
      }
    }
    for (const [rank, program] of programs.entries())
      for (const name of program[index]?.release ?? []) if (!(name in inputs)) ranks[rank]?.delete(name);
  }
  return ranks.map((held) => Object.fromEntries(held));
};
