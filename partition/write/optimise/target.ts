/**
 * What segments are optimised for. An optimised graph is bound to its provider and to the version of ONNX Runtime; on CPUs
 * also to the processor, by the layout of its weights.
 */
import { TandemError } from '../../../common/errors.js';
import { ONNXRUNTIME_VERSION, type Provider } from '../../../common/onnxruntime.js';
import type { Manifest, OptimisedFor } from '../manifest.js';
import { findLayout } from './known-layout.js';

/** The others copy their weights to a device in any case, and what they make of a graph cannot all be saved. */
const PREPARABLE: ReadonlySet<Provider> = new Set(['cpu']);

export const isOptimisable = (provider: Provider): boolean => PREPARABLE.has(provider);

/** What segments for this provider are optimised for on this machine; undefined where the provider takes them as they are. */
export const findTarget = async (provider: Provider): Promise<OptimisedFor | undefined> =>
  isOptimisable(provider)
    ? { provider, onnxruntime_version: ONNXRUNTIME_VERSION, layout: await findLayout(provider) }
    : undefined;

const describeTarget = (target: OptimisedFor | undefined): string =>
  target
    ? `provider "${target.provider}", ONNX Runtime ${target.onnxruntime_version}, processor layout ${target.layout.slice(0, 8)}`
    : 'nothing in particular';

/** Says how what a rank's segments were optimised for differs from what would be made here; undefined where it does not. */
const mismatch = (prepared: OptimisedFor | undefined, target: OptimisedFor | undefined): string | undefined =>
  prepared?.provider === target?.provider &&
  prepared?.onnxruntime_version === target?.onnxruntime_version &&
  prepared?.layout === target?.layout
    ? undefined
    : `prepared for ${describeTarget(prepared)}; needed is ${describeTarget(target)}`;

interface RankDevice {
  readonly provider: Provider;
}

/**
 * Says why a shard directory's segments are not what `partition` would write for these devices on this machine; undefined
 * where they are. Others, for a provider that could have had optimised ones, run, but are optimised at every start.
 * @param devices index is the rank
 */
export const findOptimisedMismatch = async (
  manifest: Manifest,
  devices: readonly RankDevice[],
): Promise<string | undefined> => {
  for (const [rank, { provider }] of devices.entries()) {
    const found = mismatch(manifest.ranks[rank]?.prepared, await findTarget(provider));
    if (found !== undefined) return `rank ${rank} is ${found}`;
  }
  return undefined;
};

/**
 * Makes sure that optimised segments run on these devices of this machine: elsewhere they could give wrong numbers.
 * @param devices index is the rank
 * @throws TandemError `SHARD_PREPARED`
 */
export const checkOptimised = async (manifest: Manifest, devices: readonly RankDevice[]): Promise<void> => {
  for (const [rank, { provider }] of devices.entries()) {
    const prepared = manifest.ranks[rank]?.prepared;
    const found = prepared && mismatch(prepared, await findTarget(provider));
    if (found === undefined) continue;
    throw new TandemError(
      'SHARD_PREPARED',
      `The segments cannot run here: rank ${rank} is ${found}. Make the shard directory again on this machine with "tandem partition".`,
    );
  }
};
