/** Whether two versions fit each device's memory at the same time, as they must while one takes the other's place. */
import { TandemError } from '../../common/errors.js';
import { formatBytes } from '../config/bytes.js';
import type { ClusterConfig, DeviceConfig } from '../config/index.js';
import { rankNeeds, totalOf } from '../hosting/index.js';
import type { ServingPlan } from './serving-plan.js';

export interface Version {
  readonly config: ClusterConfig;
  readonly plan: ServingPlan;
}

/** Bytes of weights and activations of each rank, all its networks together, as they are counted against `memory_limit`. */
const needs = async ({ config, plan: { planned } }: Version): Promise<readonly number[]> =>
  (await rankNeeds(config, planned, planned.networks)).map(totalOf);

/** `cuda:1`, or `cpu:0 (2nd)`: devices without numbers are told apart by their place among their like. */
const deviceNames = (devices: readonly DeviceConfig[]): readonly string[] =>
  devices.map(({ provider, deviceId }, index) => {
    const before = devices
      .slice(0, index)
      .filter((other) => other.provider === provider && other.deviceId === deviceId);
    return `${provider}:${deviceId}${before.length === 0 ? '' : ` (${before.length + 1})`}`;
  });

const problemsOf = async (served: readonly Version[], next: Version): Promise<readonly string[]> => {
  if (next.config.devices.every(({ memoryLimit }) => memoryLimit === undefined)) return [];
  const taken = new Map<string, number>();
  for (const version of served) {
    const names = deviceNames(version.config.devices);
    for (const [rank, bytes] of (await needs(version)).entries()) {
      const name = names[rank] ?? '';
      taken.set(name, (taken.get(name) ?? 0) + bytes);
    }
  }
  const wanted = await needs(next);
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
 * Makes sure that a size can be loaded beside those that are.
 * @throws TandemError `SIZE_MEMORY` with the figures of every device whose limit is too low
 */
export const checkSizeFits = async (loaded: readonly Version[], next: Version): Promise<void> => {
  const problems = await problemsOf(loaded, next);
  if (problems.length === 0) return;
  const { width, height } = next.plan.served;
  throw new TandemError(
    'SIZE_MEMORY',
    `${width}x${height} does not fit beside the sizes that are loaded: ${problems.join('; ')}.`,
  );
};
