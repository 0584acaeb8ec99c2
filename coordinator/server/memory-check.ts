/** Whether two versions fit each device's memory at the same time, as they must while one takes the other's place. */
import { TandemError } from '../../common/errors.js';
import type { Manifest } from '../../partition/write/manifest.js';
import { formatBytes } from '../config/bytes.js';
import type { ClusterConfig, DeviceConfig } from '../config/index.js';
import type { Hooks } from '../hooks.js';
import { rankNeeds, totalOf } from '../hosting/index.js';
import { prepareShards } from '../shards/prepare.js';
import { denoiserRequest } from '../shards/request.js';
import type { ServingPlan } from './serving-plan.js';

export interface Version {
  readonly config: ClusterConfig;
  readonly plan: ServingPlan;
}

/** Bytes of weights and activations of each rank, all its networks together, as they are counted against `memory_limit`. */
const needs = async ({ config, plan: { planned } }: Version): Promise<readonly number[]> =>
  (await rankNeeds(config, planned, planned.networks)).map(totalOf);

type NeedsOf = typeof needs;

/** Whether workers compute with the pages of the file itself. */
const isMapped = ({ devices }: ClusterConfig, rank: number): boolean => devices[rank]?.provider === 'cpu';

/** Bytes of a rank's weights that are in a file of another size. */
const sharedBytes = ({ files, ranks }: Manifest, rank: number): number => {
  const { shared, weights, weight_bytes = 0 } = ranks[rank] ?? {};
  if (shared === undefined) return 0;
  const own = files.find(({ path }) => path === weights)?.bytes ?? 0;
  return Math.max(0, weight_bytes - own);
};

/** As `needs`, were all weights shared that can be: less than any size takes. */
const leastNeeds: NeedsOf = async ({ config, plan: { planned } }) =>
  (await rankNeeds(config, planned, planned.networks)).map((need, rank) =>
    isMapped(config, rank) ? need.activations : totalOf(need),
  );

/** As `needs`, without what is shared; makes the shards where there are none. */
const needsSharing =
  (hooks: Hooks): NeedsOf =>
  async (version) => {
    const { config, plan } = version;
    const { manifest } = await prepareShards(denoiserRequest(config, plan.planned), hooks);
    return (await needs(version)).map(
      (bytes, rank) => bytes - (isMapped(config, rank) ? sharedBytes(manifest, rank) : 0),
    );
  };

/** `cuda:1`, or `cpu:0 (2nd)`: devices without numbers are told apart by their place among their like. */
const deviceNames = (devices: readonly DeviceConfig[]): readonly string[] =>
  devices.map(({ provider, deviceId }, index) => {
    const before = devices
      .slice(0, index)
      .filter((other) => other.provider === provider && other.deviceId === deviceId);
    return `${provider}:${deviceId}${before.length === 0 ? '' : ` (${before.length + 1})`}`;
  });

const problemsOf = async (
  served: readonly Version[],
  next: Version,
  needsOf: NeedsOf = needs,
): Promise<readonly string[]> => {
  if (next.config.devices.every(({ memoryLimit }) => memoryLimit === undefined)) return [];
  const taken = new Map<string, number>();
  for (const version of served) {
    const names = deviceNames(version.config.devices);
    for (const [rank, bytes] of (await needsOf(version)).entries()) {
      const name = names[rank] ?? '';
      taken.set(name, (taken.get(name) ?? 0) + bytes);
    }
  }
  const wanted = await needsOf(next);
  return deviceNames(next.config.devices).flatMap((name, rank) => {
    const limit = next.config.devices[rank]?.memoryLimit;
    const [before, more] = [taken.get(name) ?? 0, wanted[rank] ?? 0];
    if (limit === undefined || before + more <= limit) return [];
    const both = formatBytes(before + more);
    return [
      `rank ${rank} (${name}): ${formatBytes(before)} are served and ${formatBytes(more)} are to be loaded, ${both} together; memory_limit is ${formatBytes(limit)}`,
    ];
  });
};

/**
 * Makes sure that a version can be loaded beside the one that is served.
 * @throws TandemError `SWAP_MEMORY` with the figures of every device whose limit is too low for both
 */
export const checkSideBySide = async (old: Version, next: Version): Promise<void> => {
  const problems = await problemsOf([old], next);
  if (problems.length === 0) return;
  throw new TandemError(
    'SWAP_MEMORY',
    'The two versions do not fit side by side, as they must while one takes the place of the other. Raise memory_limit, or stop the server and start it with the new config:',
    { problems },
  );
};

/**
 * Makes sure that a size can be loaded beside those that are. Only where that hangs on what they share is it prepared to see how
 * much that is.
 * @throws TandemError `SIZE_MEMORY` with the figures of every device whose limit is too low
 */
export const checkSizeFits = async (loaded: readonly Version[], next: Version, hooks: Hooks): Promise<void> => {
  const unshared = await problemsOf(loaded, next);
  if (unshared.length === 0) return;
  const isHopeless = (await problemsOf(loaded, next, leastNeeds)).length > 0;
  const problems = isHopeless ? unshared : await problemsOf(loaded, next, needsSharing(hooks));
  if (problems.length === 0) return;
  const { width, height } = next.plan.served;
  throw new TandemError(
    'SIZE_MEMORY',
    `${width}x${height} does not fit beside the sizes that are loaded: ${problems.join('; ')}.`,
  );
};
