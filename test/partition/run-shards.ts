/**
 * Runs a shard directory in this process: the ranks' segments in turn, with exchanges
 * as copies. What workers do with processes and sockets, to try a plan's numbers quickly.
 */
import { join } from 'node:path';
import { openSession } from '#tandem/common/onnxruntime.js';
import type { HostTensor } from '#tandem/common/tensor.js';
import type { Manifest, Profile, SegmentEntry } from '#tandem/partition/write/manifest.js';
import { openOptimised } from '#tandem/partition/write/optimise/open.js';

type Tensors = Readonly<Record<string, HostTensor>>;

const required = (held: ReadonlyMap<string, HostTensor>, name: string, rank: number): HostTensor => {
  const tensor = held.get(name);
  if (tensor) return tensor;
  throw new Error(`Rank ${rank} does not have "${name}".`);
};

const runSegment = async (
  path: string,
  segment: SegmentEntry,
  held: Map<string, HostTensor>,
  rank: number,
  isPrepared: boolean,
): Promise<void> => {
  const session = isPrepared
    ? await openOptimised(path, { provider: 'cpu' })
    : await openSession(path, { provider: 'cpu', optimization: 'all' });
  try {
    const feeds = Object.fromEntries(segment.inputs.map((name) => [name, required(held, name, rank)]));
    const outputs = await session.run(
      feeds,
      segment.outputs.map(({ name }) => name),
    );
    for (const [name, tensor] of Object.entries(outputs)) held.set(name, tensor);
  } finally {
    await session.dispose();
  }
};

const onlyProfile = ({ profiles }: Manifest): Profile => {
  const [profile] = profiles;
  if (profile && profiles.length === 1) return profile;
  throw new Error(`Expected one profile, found ${profiles.length}.`);
};

/** @returns the model's outputs as each rank has them */
export const runShards = async (
  directory: string,
  manifest: Manifest,
  inputs: Tensors,
): Promise<readonly Tensors[]> => {
  const profile = onlyProfile(manifest);
  const held = profile.ranks.map(() => new Map(Object.entries(inputs)));
  const count = Math.max(...profile.ranks.map(({ segments }) => segments.length));
  for (let index = 0; index < count; index++) {
    const current = profile.ranks.map(({ segments }, rank) => ({
      rank,
      segment: segments[index],
      tensors: held[rank] ?? new Map<string, HostTensor>(),
    }));
    for (const { rank, segment, tensors } of current) {
      const isPrepared = manifest.ranks[rank]?.prepared !== undefined;
      if (segment) await runSegment(join(directory, segment.file), segment, tensors, rank, isPrepared);
    }
    for (const { segment, tensors } of current) {
      for (const { name, tensor, from } of segment?.receives ?? [])
        tensors.set(name, required(held[from] ?? new Map(), tensor, from));
    }
    for (const { segment, tensors } of current) for (const name of segment?.release ?? []) tensors.delete(name);
  }
  return held.map((tensors, rank) =>
    Object.fromEntries(profile.outputs.map(({ name }) => [name, required(tensors, name, rank)])),
  );
};
