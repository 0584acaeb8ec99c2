/** Shard directories on demand: reused where one fits, else made by the partitioner. */
import { statSync } from 'node:fs';
import { mkdir } from 'node:fs/promises';
import { join } from 'node:path';
import { TandemError } from '../../common/errors.js';
import type { Manifest, Profile } from '../../partition/write/manifest.js';
import { findOptimisedMismatch } from '../../partition/write/optimise/target.js';
import { readManifest } from '../../partition/write/read-manifest.js';
import { checkRankFiles } from '../../shard-worker/check.js';
import type { DeviceConfig } from '../config/index.js';
import { checkDevices } from '../devices/index.js';
import { checkCancelled, type Hooks } from '../hooks.js';
import { plan } from '../planner/index.js';
import type { Dims } from './dims.js';
import { shardNames } from './fingerprint.js';
import type { ShardRequest } from './request.js';

export interface PreparedShards {
  readonly directory: string;
  readonly manifest: Manifest;
  /** The one with the requested dims. */
  readonly profile: Profile;
  /** ms spent on the partitioner; 0 where the shards were reused. */
  readonly partitionMs: number;
  /**
   * Makes the directory anew where it is not what it was, to the last byte: it is derived data.
   * @throws TandemError as `partition` does
   */
  readonly remake?: (signal: AbortSignal) => Promise<void>;
}

/** The manifest of a directory that can be used as it is, or why it cannot. */
const checkReusable = async (
  directory: string,
  devices: readonly DeviceConfig[],
): Promise<Manifest | { readonly reason: string }> => {
  if (!statSync(directory, { throwIfNoEntry: false })) return { reason: 'none are prepared yet' };
  try {
    const manifest = await readManifest(directory);
    // Sizes only: each worker checks the digests of its own files when it loads them.
    const wrong = manifest.files.find(
      (file) => statSync(join(directory, file.path), { throwIfNoEntry: false })?.size !== file.bytes,
    );
    if (wrong) return { reason: `${wrong.path} is missing or has another size` };
    const mismatch = await findOptimisedMismatch(manifest, devices);
    return mismatch === undefined ? manifest : { reason: mismatch };
  } catch (error) {
    if (error instanceof TandemError) return { reason: error.message };
    throw error;
  }
};

const sameDims = (a: Dims, b: Dims): boolean => {
  const names = Object.keys(a);
  return names.length === Object.keys(b).length && names.every((name) => a[name] === b[name]);
};

const profileFor = (manifest: Manifest, dims: Dims): Profile => {
  const profile = manifest.profiles.find((candidate) => sameDims(candidate.dims, dims));
  if (profile) return profile;
  const have = manifest.profiles.map(({ name }) => name).join('; ');
  throw new TandemError('PROFILE_MISSING', `Expected shards for ${JSON.stringify(dims)}; the directory has ${have}.`);
};

/** Where shards are, and the beginning of the names of all sizes of the model. */
interface NamedDirectory {
  readonly directory: string;
  readonly prefix: string;
}

const makeShards = async (
  request: ShardRequest,
  { directory, prefix }: NamedDirectory,
  hooks: Hooks,
): Promise<Manifest> => {
  await mkdir(request.root, { recursive: true });
  return plan('partition', { request, out: directory, kin: prefix }, hooks);
};

const isWhole = async (directory: string): Promise<boolean> => {
  try {
    const manifest = await readManifest(directory);
    for (const { rank } of manifest.ranks) await checkRankFiles(directory, manifest, rank);
    return true;
  } catch (error) {
    if (error instanceof TandemError) return false;
    throw error;
  }
};

const remake = async (request: ShardRequest, target: NamedDirectory, hooks: Hooks): Promise<void> => {
  if (await isWhole(target.directory)) return;
  await makeShards(request, target, hooks);
  hooks.onNotice?.(`Made the shards in ${target.directory} anew.`);
};

/**
 * Finds or makes the shard directory of a model for these devices, dims, wire type and kind of weights.
 * It is named by what it was made from, so one that was made from anything else is never reused; weights that another size of the
 * same model has are shared with that.
 * @throws TandemError as `checkDevices`, `partition` and `readManifest` do
 */
export const prepareShards = async (request: ShardRequest, hooks: Hooks = {}): Promise<PreparedShards> => {
  checkCancelled(hooks.signal);
  const { kin, own } = await shardNames(request, request.root);
  const prefix = `${request.model.name}-${request.devices.length}x-${kin}-`;
  const directory = join(request.root, `${prefix}${own}`);
  const target = { directory, prefix };
  const found = await checkReusable(directory, request.devices);
  const facts = { directory, remake: (signal: AbortSignal) => remake(request, target, { ...hooks, signal }) };
  if (!('reason' in found)) {
    hooks.onNotice?.(`Reusing the shards in ${directory}.`);
    return { ...facts, manifest: found, profile: profileFor(found, request.dims), partitionMs: 0 };
  }
  // Further hosts try theirs themselves.
  const ours = request.devices.filter(({ host }) => host === undefined);
  await checkDevices(ours, request.wire);
  hooks.onNotice?.(`Partitioning ${request.model.name} into ${directory} (${found.reason}).`);
  const start = performance.now();
  const manifest = await makeShards(request, target, hooks);
  checkCancelled(hooks.signal);
  return { ...facts, manifest, profile: profileFor(manifest, request.dims), partitionMs: performance.now() - start };
};
