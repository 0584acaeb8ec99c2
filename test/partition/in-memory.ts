/**
 * Runs what was planned for all ranks in this process, without files, sockets or workers: each segment's graph in a session of
 * its own, what is sent handed over by name. A tenth of the time of `run-shards.ts`, which proves the rest.
 */
import { closeSync, openSync, readSync } from 'node:fs';
import { openSession } from '#tandem/common/onnxruntime.js';
import type { HostTensor } from '#tandem/common/tensor.js';
import { constantsOf, type Graph, sliceOf } from '#tandem/partition/graph/graph.js';
import { sliceTensor, type WeightSlice } from '#tandem/partition/graph/slice.js';
import { nameProgram } from '#tandem/partition/segments/name-values.js';
import { findReleases, type Program } from '#tandem/partition/segments/rank-program.js';
import { encodeSegment, type Placed } from '#tandem/partition/write/encode.js';

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

const encode = (graph: Graph): Uint8Array => {
  const placed = [...constantsOf(graph)].flatMap((value) => {
    const slice = sliceOf(value);
    const place: Placed | undefined = slice && { kind: 'inline', data: sliceBytes(slice) };
    return place ? [[value, place] as const] : [];
  });
  return encodeSegment({ file: 'segment.onnx', graph }, new Map(placed)).graph;
};

const runSegment = async (graph: Graph, held: Map<string, HostTensor>): Promise<void> => {
  const session = await openSession(encode(graph), { provider: 'cpu', optimization: 'disabled', threads: 1 });
  try {
    const feeds = Object.fromEntries(
      graph.inputs.flatMap(({ name }) => {
        const tensor = held.get(name);
        return tensor ? [[name, tensor]] : [];
      }),
    );
    const results = graph.outputs.length > 0 ? await session.run(feeds) : {};
    for (const [name, tensor] of Object.entries(results)) held.set(name, { ...tensor, data: tensor.data.slice() });
  } finally {
    await session.dispose();
  }
};

/** @returns what each rank holds in the end, by name */
export const runInMemory = async (programs: readonly Program[], inputs: Tensors): Promise<readonly Tensors[]> => {
  const named = programs.map(nameProgram);
  const releases = named.map(findReleases);
  const ranks = named.map(() => new Map(Object.entries(inputs)));
  const count = Math.max(...named.map(({ segments }) => segments.length));
  for (let index = 0; index < count; index++) {
    for (const [rank, { segments }] of named.entries()) {
      const [graph, held] = [segments[index]?.graph, ranks[rank]];
      if (graph && held) await runSegment(graph, held);
    }
    for (const [rank, { segments }] of named.entries()) {
      for (const { of, value, from } of segments[index]?.receives ?? []) {
        const sent = named[from]?.segments[index]?.sends.find((one) => one.of === of && one.to.includes(rank));
        const arrived = sent && ranks[from]?.get(sent.value.name);
        if (arrived) ranks[rank]?.set(value.name, arrived);
      }
    }
    for (const [rank, released] of releases.entries())
      for (const { name } of released[index] ?? []) if (!(name in inputs)) ranks[rank]?.delete(name);
  }
  return ranks.map((held) => Object.fromEntries(held));
};
