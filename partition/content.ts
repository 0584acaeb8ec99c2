/** From what was decided to what is written: the manifest's profile, and each rank's graphs, with names that files can hold. */
import { posix } from 'node:path';
import type { OpenSpec, TensorSpec } from '../common/tensor.js';
import { requireSpec } from './clean/refuse.js';
import type { Decided } from './decide/report.js';
import { knownShape, type Value } from './graph/graph.js';
import type { Dims } from './request.js';
import { nameProgram } from './segments/name-values.js';
import { findReleases, type Program, type Received, sentBytes } from './segments/rank-program.js';
import type { RankContent } from './write/index.js';
import type { OptimisedFor, Profile, RankProgram, Receive, SegmentEntry } from './write/manifest.js';

const segmentFile = (rank: number, segment: number): string =>
  posix.join(`rank-${rank}`, `profile-0-segment-${String(segment).padStart(3, '0')}.onnx`);

const nameOf = ({ name }: Value): string => name;

const openSpec = (value: Value): OpenSpec => ({ name: value.name, dtype: value.dtype, shape: knownShape(value) });

const profileName = (dims: Dims): string =>
  Object.entries(dims)
    .map(([name, size]) => `${name}=${size}`)
    .join(',') || 'static';

/** What `rank` receives after a segment, with the name that its sender has for it. */
const toReceive = (
  { of, from, value }: Received,
  rank: number,
  segment: number,
  programs: readonly Program[],
): Receive => {
  const sent = programs[from]?.segments[segment]?.sends.find((one) => one.of === of && one.to.includes(rank));
  if (!sent) throw new RangeError(`Rank ${rank} waits for "${value.name}", which rank ${from} does not send.`);
  return { ...requireSpec(value), from, tensor: sent.value.name };
};

const toEntries = (programs: readonly Program[], rank: number): readonly SegmentEntry[] => {
  const program = programs[rank];
  const releases = program ? findReleases(program) : [];
  return (program?.segments ?? []).map(({ graph, sends, receives }, index) => ({
    file: segmentFile(rank, index),
    inputs: graph.inputs.map(nameOf),
    outputs: graph.outputs.map(openSpec),
    sends: sends.map(({ value, to }) => ({ tensor: value.name, to })),
    receives: receives.map((received) => toReceive(received, rank, index, programs)),
    release: (releases[index] ?? []).map(nameOf),
  }));
};

const wholeOf = ({ whole }: Program): Pick<RankProgram, 'whole'> =>
  whole.size === 0 ? {} : { whole: Object.fromEntries([...whole].map(([{ name }, of]) => [name, of])) };

const toRank = ({ segments }: Program, rank: number, optimised: OptimisedFor | undefined): RankContent => ({
  folder: `rank-${rank}`,
  segments: segments.map(({ graph }, index) => ({ file: segmentFile(rank, index), graph })),
  folded: new Map(segments.flatMap(({ folded }) => [...folded])),
  ...(optimised ? { prepared: optimised } : {}),
});

/** @param targets what each rank's segments are optimised for */
export const toShards = (
  { graph, programs }: Decided,
  dims: Dims,
  targets: readonly (OptimisedFor | undefined)[],
): { readonly profile: Profile; readonly ranks: readonly RankContent[] } => {
  const named = programs.map(nameProgram);
  const specs = (values: readonly Value[]): readonly TensorSpec[] => values.map(requireSpec);
  return {
    profile: {
      name: profileName(dims),
      dims,
      inputs: specs(graph.inputs),
      outputs: specs(graph.outputs),
      wire_bytes_per_step: Math.max(...programs.map(sentBytes)),
      ranks: named.map((program, rank) => ({ segments: toEntries(named, rank), ...wholeOf(program) })),
    },
    ranks: named.map((program, rank) => toRank(program, rank, targets[rank])),
  };
};
