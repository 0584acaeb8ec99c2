/** From what was decided to what is written: the manifest's profile, and each rank's graphs and slices of weights. */
import { posix } from 'node:path';
import { requireSpec } from './clean/check.js';
import { type Decided, sentBytes } from './decide/report.js';
import type { Dims } from './request.js';
import type { EmittedSegment } from './segments/emit.js';
import type { RankContent } from './write/index.js';
import type { OptimisedFor, Profile } from './write/manifest.js';

const segmentFile = (rank: number, segment: number): string =>
  posix.join(`rank-${rank}`, `profile-0-segment-${String(segment).padStart(3, '0')}.onnx`);

export const toProfile = ({ graph, programs }: Decided, dims: Dims): Profile => ({
  name:
    Object.entries(dims)
      .map(([name, size]) => `${name}=${size}`)
      .join(',') || 'static',
  dims,
  inputs: graph.inputs.map(requireSpec),
  outputs: graph.outputs.map(requireSpec),
  wire_bytes_per_step: Math.max(...programs.map(sentBytes)),
  ranks: programs.map((program, rank) => ({
    segments: program.map(({ inputs, outputs, sends, receives, release }, segment) => ({
      file: segmentFile(rank, segment),
      inputs: inputs.map(({ name }) => name),
      outputs,
      sends,
      receives,
      release,
    })),
  })),
});

export const toRankContent = (
  program: readonly EmittedSegment[],
  rank: number,
  optimised: OptimisedFor | undefined,
): RankContent => {
  const segments = program.map(({ model, constants }, i) => ({ file: segmentFile(rank, i), model, constants }));
  const slices = new Map(segments.flatMap(({ constants }) => constants.map((slice) => [slice.name, slice] as const)));
  return {
    folder: `rank-${rank}`,
    slices: [...slices.values()],
    segments,
    quantized: new Map(program.flatMap(({ quantized }) => [...quantized])),
    ...(optimised ? { prepared: optimised } : {}),
  };
};
