/**
 * Where in a rank's shared memory each tensor lies that it sends, and what must have happened before the place may be written again.
 * All of it follows from the ranks' programs, which every rank knows, so nothing of it is ever sent.
 *
 * A rank counts the segments that it has run in a step, and the others see the count. That count p tells two things at once: what the
 * rank sends after segments below p is there, and what it read in segments below p it needs no longer. So "has it arrived" and "may I
 * write here again" are the same question, whether a peer's count has come so far.
 */
import { createHash } from 'node:crypto';
import { TandemError } from '../../common/errors.js';
import { byteLength, isKnownSpec } from '../../common/tensor.js';
import type { Receive, SegmentEntry } from '../../partition/write/manifest.js';

/** A rank's count must have reached this. */
export interface Wait {
  readonly rank: number;
  readonly count: number;
}

/** Where in a lane; in bytes. */
export interface Region {
  readonly offset: number;
  readonly bytes: number;
}

/** A rank's part in a network. */
export interface RankRegions {
  /** By segment of the network, and by place in its `sends`. */
  readonly regions: readonly (readonly Region[])[];
  /** By segment: what must hold before it runs, because it writes where something else was. */
  readonly beforeRun: readonly (readonly Wait[])[];
  /** By segment: what must hold before the next one reads what this one was sent. */
  readonly afterRun: readonly (readonly Wait[])[];
  /** By segment and by place in its `receives`: the sender, and the place in its `sends`. */
  readonly sources: readonly (readonly Source[])[];
  /** Of a lane. */
  readonly bytes: number;
}

export interface Source {
  readonly rank: number;
  readonly send: number;
}

/** A network's ranks. */
export interface NetworkRegions {
  /** Index is the rank. */
  readonly ranks: readonly RankRegions[];
  /** Those that run it. */
  readonly members: readonly number[];
}

/** Index is the rank. */
type Program = readonly { readonly segments: readonly SegmentEntry[] }[];

/** Counts share a word with what comes above them; the count of a rank that has ended is beyond all others. */
export const COUNT_BITS = 16;
export const MAX_SEGMENTS = (1 << COUNT_BITS) - 1;
/** Cache lines and vector registers. */
const ALIGNMENT = 64;

/** The count of a rank that no longer needs a tensor that it has had since `since`. */
const countWhenReleased = (segments: readonly SegmentEntry[], name: string, since: number): number => {
  const released = segments.findIndex(({ release }, index) => index >= since && release.includes(name));
  return released < 0 ? MAX_SEGMENTS : released + 1;
};

/** A region that is taken, and the counts from which on it is free. */
interface Taken {
  readonly region: Region;
  readonly until: readonly Wait[];
}

const latest = ({ until }: Taken): number => Math.max(...until.map(({ count }) => count));

const endOf = ({ offset, bytes }: Region): number => Math.ceil((offset + bytes) / ALIGNMENT) * ALIGNMENT;

const overlaps = (a: Region, b: Region): boolean => a.offset < endOf(b) && b.offset < endOf(a);

/** The lowest gap between regions that is large enough. */
const findGap = (regions: readonly Region[], bytes: number): Region => {
  let offset = 0;
  for (const region of regions.toSorted((a, b) => a.offset - b.offset)) {
    if (offset + bytes <= region.offset) break;
    offset = Math.max(offset, endOf(region));
  }
  return { offset, bytes };
};

/** By rank the highest count. */
const strictest = (waits: readonly Wait[]): readonly Wait[] => {
  const counts = new Map<number, number>();
  for (const { rank, count } of waits) counts.set(rank, Math.max(count, counts.get(rank) ?? 0));
  return [...counts].map(([rank, count]) => ({ rank, count }));
};

class Arena {
  readonly #program: Program;
  readonly #rank: number;
  #taken: readonly Taken[] = [];
  bytes = 0;

  constructor(program: Program, rank: number) {
    this.#program = program;
    this.#rank = rank;
  }

  /** Regions of a segment's sends, and what must hold before they are written. */
  place(
    segment: SegmentEntry,
    index: number,
  ): { readonly regions: readonly Region[]; readonly waits: readonly Wait[] } {
    const waits: Wait[] = [];
    const regions = new Map<string, Region>();
    for (const { tensor } of segment.sends) {
      const spec = segment.outputs.find(({ name }) => name === tensor);
      // What is sent has a known size: the planner refuses a model where it would not.
      if (spec && isKnownSpec(spec) && !regions.has(tensor))
        regions.set(tensor, this.#take(tensor, byteLength(spec), index, waits));
    }
    return {
      regions: segment.sends.map(({ tensor }) => regions.get(tensor) ?? { offset: 0, bytes: 0 }),
      waits: strictest(waits),
    };
  }

  #take(tensor: string, bytes: number, index: number, waits: Wait[]): Region {
    // What was last read in the segment just before may still be read by a slower rank: that would mean to wait for it.
    const live = this.#taken.filter((taken) => latest(taken) >= index);
    const region = findGap(
      live.map((taken) => taken.region),
      bytes,
    );
    const replaced = this.#taken.filter((taken) => !live.includes(taken) && overlaps(taken.region, region));
    waits.push(...replaced.flatMap(({ until }) => until.filter(({ rank }) => rank !== this.#rank)));
    // Whoever replaces this one has also waited for what it replaces.
    this.#taken = [...this.#taken, { region, until: this.#untilReleased(tensor, index) }];
    this.bytes = Math.max(this.bytes, endOf(region));
    return region;
  }

  #untilReleased(tensor: string, index: number): readonly Wait[] {
    const own = {
      rank: this.#rank,
      count: countWhenReleased(this.#program[this.#rank]?.segments ?? [], tensor, index),
    };
    const readers = this.#program.flatMap(({ segments }, rank) =>
      (segments[index]?.receives ?? [])
        .filter((receive) => receive.from === this.#rank && receive.tensor === tensor)
        .map(({ name }) => ({ rank, count: countWhenReleased(segments, name, index + 1) })),
    );
    return [own, ...readers];
  }
}

const sourceOf = (program: Program, { from, tensor }: Receive, index: number): Source => {
  const sends = program[from]?.segments[index]?.sends ?? [];
  return { rank: from, send: sends.findIndex((send) => send.tensor === tensor) };
};

/** A rank's part in a network. @param program the network's stretch of all ranks' programs */
export const placeRegions = (program: Program, rank: number): RankRegions => {
  const segments = program[rank]?.segments ?? [];
  if (segments.length >= MAX_SEGMENTS)
    throw new TandemError('SHARED_MEMORY', `Expected fewer than ${MAX_SEGMENTS} segments, found ${segments.length}.`);
  const arena = new Arena(program, rank);
  const placed = segments.map((segment, index) => arena.place(segment, index));
  return {
    regions: placed.map(({ regions }) => regions),
    beforeRun: placed.map(({ waits }) => waits),
    afterRun: segments.map(({ receives }, index) =>
      strictest(receives.map(({ from }) => ({ rank: from, count: index + 1 }))),
    ),
    sources: segments.map(({ receives }, index) => receives.map((receive) => sourceOf(program, receive, index))),
    bytes: arena.bytes,
  };
};

/** Tells programs apart that lay their tensors out differently. 32 bytes. */
export const digestOf = (program: Program): Buffer =>
  createHash('sha256')
    .update(
      JSON.stringify(
        program.map(({ segments }) => segments.map(({ sends, receives, outputs }) => [sends, receives, outputs])),
      ),
    )
    .digest();
