/** Several networks' programs as one. */
import { expect, it } from 'vitest';
import type { Profile, SegmentEntry } from '#tandem/partition/write/manifest.js';
import { joinPrograms } from '#tandem/shard-worker/program.js';

/** Rank 0 sends `t` to rank 1 after each segment. */
const profileOf = (name: string, worldSize: number, segments: number): Profile => {
  const segment = (rank: number, index: number): SegmentEntry => ({
    file: `${name}/rank-${rank}/${index}.onnx`,
    inputs: [],
    outputs: [],
    sends: rank === 0 && worldSize > 1 ? [{ tensor: 't', to: [1] }] : [],
    receives: rank === 1 ? [{ name: 't', dtype: 'float32', shape: [1], from: 0, tensor: 't' }] : [],
    release: [],
  });
  return {
    name: 'static',
    dims: {},
    inputs: [],
    outputs: [],
    wire_bytes_per_step: 0,
    ranks: Array.from({ length: worldSize }, (_, rank) => ({
      segments: Array.from({ length: segments }, (_, index) => segment(rank, index)),
    })),
  };
};

const filesOf = (segments: readonly SegmentEntry[]): readonly string[] => segments.map(({ file }) => file);

it('numbers the segments alike on every rank, also on those that have no part in a network', () => {
  const { ranks, stretches } = joinPrograms(
    [
      { profile: profileOf('alone', 1, 2), members: [1] },
      { profile: profileOf('both', 2, 1), members: [0, 1] },
    ],
    2,
  );
  expect(stretches).toEqual([
    { first: 0, count: 2 },
    { first: 2, count: 1 },
  ]);
  expect(ranks.map(({ segments }) => filesOf(segments))).toEqual([
    ['', '', 'both/rank-0/0.onnx'],
    ['alone/rank-0/0.onnx', 'alone/rank-0/1.onnx', 'both/rank-1/0.onnx'],
  ]);
});

it('names peers by their workers, wherever a network puts its ranks', () => {
  const { ranks } = joinPrograms([{ profile: profileOf('turned', 2, 1), members: [2, 0] }], 3);
  const [worker0, worker1, worker2] = ranks.map(({ segments }) => segments[0]);
  expect(worker2).toMatchObject({ file: 'turned/rank-0/0.onnx', sends: [{ tensor: 't', to: [0] }] });
  expect(worker0).toMatchObject({ file: 'turned/rank-1/0.onnx', receives: [{ from: 2, tensor: 't' }] });
  expect(worker1).toMatchObject({ sends: [], receives: [] });
});
