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

/**
 * Makes sure that a version can be loaded beside the one that is served.
 * @throws TandemError `SWAP_MEMORY` with the figures of every device whose limit is too low for both
 */
export const checkSideBySide = async (old: Version, next: Version): Promise<void> => {
  if (next.config.devices.every(({ memoryLimit }) => memoryLimit === undefined)) return;
  const [oldNeeds, nextNeeds] = [await needs(old), await needs(next)];
  const oldNames = deviceNames(old.config.devices);
  const problems = deviceNames(next.config.devices).flatMap((name, rank) => {
    const limit = next.config.devices[rank]?.memoryLimit;
    const [served, wanted] = [oldNeeds[oldNames.indexOf(name)] ?? 0, nextNeeds[rank] ?? 0];
    if (limit === undefined || served + wanted <= limit) return [];
    const both = formatBytes(served + wanted);
    return [
      `rank ${rank} (${name}): ${formatBytes(served)} are served and ${formatBytes(wanted)} are to be loaded, ${both} together; memory_limit is ${formatBytes(limit)}`,
    ];
  });
  if (problems.length === 0) return;
  throw new TandemError(
    'SWAP_MEMORY',
    'The two versions do not fit side by side, as they must while one takes the place of the other. Raise memory_limit, or stop the server and start it with the new config:',
    { problems },
  );
};
