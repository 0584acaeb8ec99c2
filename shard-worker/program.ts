/**
 * Several networks as one program: the segments of all of them one after the other, numbered the same on every rank. A step runs
 * one network's stretch of it, so that loading, running and exchanging need not know how many networks there are.
 */
import type { Profile, SegmentEntry } from '../partition/write/manifest.js';

/** A network and who runs it. */
export interface NetworkProgram {
  readonly profile: Profile;
  /** Ranks of the workers that run it; the place in the list is the rank in the profile. */
  readonly members: readonly number[];
}

/** Where a network's segments are among all. */
export interface Stretch {
  /** Number of its first segment. */
  readonly first: number;
  readonly count: number;
}

export interface JoinedProgram {
  /** Index is the worker's rank. */
  readonly ranks: Profile['ranks'];
  /** Index is the network. */
  readonly stretches: readonly Stretch[];
}

/** Stands in the place of segments that a rank has no part in. */
const ABSENT: SegmentEntry = { file: '', inputs: [], outputs: [], sends: [], receives: [], release: [] };

/** A segment with peers named by their workers' ranks. */
const renamed = (segment: SegmentEntry, members: readonly number[]): SegmentEntry => {
  const worker = (rank: number): number => members[rank] ?? rank;
  return {
    ...segment,
    sends: segment.sends.map(({ tensor, to }) => ({ tensor, to: to.map(worker) })),
    receives: segment.receives.map((receive) => ({ ...receive, from: worker(receive.from) })),
  };
};

const countOf = ({ profile }: NetworkProgram): number =>
  Math.max(...profile.ranks.map(({ segments }) => segments.length));

const segmentsOf = (network: NetworkProgram, rank: number): readonly SegmentEntry[] => {
  const { profile, members } = network;
  const own = profile.ranks[members.indexOf(rank)]?.segments ?? [];
  return Array.from({ length: countOf(network) }, (_, index) => {
    const segment = own[index];
    return segment === undefined ? ABSENT : renamed(segment, members);
  });
};

/** Joins the programs of networks in the order given, for `worldSize` workers. */
export const joinPrograms = (networks: readonly NetworkProgram[], worldSize: number): JoinedProgram => {
  const counts = networks.map(countOf);
  return {
    ranks: Array.from({ length: worldSize }, (_, rank) => ({
      segments: networks.flatMap((network) => segmentsOf(network, rank)),
    })),
    stretches: counts.map((count, index) => ({
      first: counts.slice(0, index).reduce((sum, before) => sum + before, 0),
      count,
    })),
  };
};
