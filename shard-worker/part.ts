/** One network as a rank has it: its files, and its stretch of the rank's program. */
import { join } from 'node:path';
import { TandemError } from '../common/errors.js';
import type { Manifest, Profile, SegmentEntry } from '../partition/write/manifest.js';
import { readManifest } from '../partition/write/read-manifest.js';
import { checkRankFiles, findProfile } from './check.js';
import type { ComputePool } from './compute-pool.js';
import { chooseLoader } from './loader.js';
import { manifestDigest } from './manifest-digest.js';
import { type JoinedProgram, joinPrograms } from './program.js';
import type { LoadedNetwork, NetworkOrder, ToWorker } from './protocol.js';
import { proveWeights } from './weights-proof.js';

export type LoadOrder = Extract<ToWorker, { kind: 'load' }>;

/** A network of the order, read but not opened. */
interface FoundNetwork {
  readonly order: NetworkOrder;
  readonly manifestSha256: string;
  readonly manifest: Manifest;
  readonly profile: Profile;
}

/** A network that this rank has a part in. */
export interface Part {
  readonly network: LoadedNetwork;
  readonly directory: string;
  readonly manifest: Manifest;
  readonly profile: Profile;
  /** This rank's number in the shard directory. */
  readonly rank: number;
  /** Number of its first segment in the rank's program. */
  readonly first: number;
  readonly segments: readonly SegmentEntry[];
  readonly onDemand: boolean;
}

/** What a load order means for a rank. */
export interface Assignment {
  readonly program: JoinedProgram;
  readonly parts: readonly Part[];
}

const checkMembers = ({ order, manifest }: FoundNetwork, { peers }: LoadOrder, rank: number): void => {
  const { members } = order;
  const fits = members.length === manifest.world_size && rank < peers.length;
  if (fits && members.every((member) => member < peers.length)) return;
  throw new TandemError(
    'SHARD_WORLD_SIZE',
    `The shard directory was made for ${manifest.world_size} ranks, but rank ${rank} of ${members.length} was started; give as many devices as the directory has ranks, or partition again.`,
  );
};

const findNetwork = async (order: NetworkOrder): Promise<FoundNetwork> => {
  // Before the manifest itself: should it be replaced in between, the digest is one that nobody will ask for.
  const manifestSha256 = await manifestDigest(order.shard_directory);
  const manifest = await readManifest(order.shard_directory);
  return { order, manifestSha256, manifest, profile: findProfile(manifest, order.profile) };
};

const partOf = (found: FoundNetwork, index: number, rank: number, program: JoinedProgram): readonly Part[] => {
  const { order, manifestSha256, manifest, profile } = found;
  const stretch = program.stretches[index];
  const place = order.members.indexOf(rank);
  if (stretch === undefined || place < 0) return [];
  const { first } = stretch;
  const count = profile.ranks[place]?.segments.length ?? 0;
  return [
    {
      network: { name: order.name, manifest_sha256: manifestSha256, profile: profile.name },
      directory: order.shard_directory,
      manifest,
      profile,
      rank: place,
      first,
      segments: program.ranks[rank]?.segments.slice(first, first + count) ?? [],
      onDemand: order.on_demand ?? false,
    },
  ];
};

/**
 * Reads the manifests of an order and finds a rank's parts in it.
 * @throws TandemError of `readManifest` and `findProfile`, `SHARD_WORLD_SIZE`
 */
export const assign = async (order: LoadOrder, rank: number): Promise<Assignment> => {
  const found = await Promise.all(order.networks.map(findNetwork));
  for (const network of found) checkMembers(network, order, rank);
  const programs = found.map(({ profile, order: { members } }) => ({ profile, members }));
  const program = joinPrograms(programs, order.peers.length);
  return { program, parts: found.flatMap((network, index) => partOf(network, index, rank, program)) };
};

/** Bytes of a part's weights on this rank. */
export const partBytes = ({ manifest, rank }: Part): number => manifest.ranks[rank]?.weight_bytes ?? 0;

export interface OpenPartOptions {
  readonly order: LoadOrder;
  readonly compute: ComputePool;
  /** Bytes of weights that were checked so far, and of how many. */
  readonly onChecked: (done: number, total: number) => void;
  /** Segments that are open, and of how many. */
  readonly onOpened: (done: number, total: number) => void;
}

const openSegments = async (part: Part, { order, compute, onOpened }: OpenPartOptions): Promise<void> => {
  const { manifest, rank, segments, first, directory } = part;
  const given = part.profile.outputs.map(({ name }) => name);
  const prepared = manifest.ranks[rank]?.prepared;
  for (const [index, segment] of segments.entries()) {
    await compute.open({
      index: first + index,
      path: join(directory, segment.file),
      segment,
      given,
      provider: order.provider,
      deviceId: order.device_id,
      threads: order.threads,
      weightBytes: partBytes(part),
      ...(prepared ? { prepared } : {}),
    });
    onOpened(index + 1, segments.length);
  }
};

/**
 * Checks a part's files and opens its segments.
 * @throws TandemError of `check.ts`, `PROVIDER_UNAVAILABLE`, `SEGMENT_OPEN`, `SEGMENT_MISMATCH`
 */
export const openPart = async (part: Part, options: OpenPartOptions): Promise<void> => {
  const { directory, manifest, rank } = part;
  // A damaged graph could do anything to ONNX Runtime; damaged weights are only numbers until the first step.
  await checkRankFiles(directory, manifest, rank, undefined, 'graphs');
  const loader = await chooseLoader(options.order.loader ?? 'auto', directory);
  const checking = proveWeights(directory, manifest, rank, loader, options.onChecked);
  if (loader === 'read') await checking;
  const ended = await Promise.allSettled([checking, openSegments(part, options)]);
  const failed = ended.find((result) => result.status === 'rejected');
  if (failed) throw failed.reason;
};
