import { launchCluster } from '#tandem/coordinator/cluster/index.js';
import { randomInputs } from '#tandem/coordinator/verify/random-inputs.js';
import { type Manifest, type PartitionOptions, partition, type SplitRequest } from '#tandem/partition/index.js';
import { toFloats } from '../cluster/helpers.js';
import { materialise } from '../fixtures/materialise.js';
import { withDirectory } from '../support/directory.js';

/** Runs `work` with a folder that holds a UNet of a real exporter. */
export const withUnet = <T>(work: (folder: string, model: string) => Promise<T>): Promise<T> =>
  withDirectory(async (folder) => work(folder, await materialise('tiny-ts17', folder)));

export const cpus = (count: number): SplitRequest['devices'] =>
  Array.from({ length: count }, () => ({ provider: 'cpu', deviceId: 0, speed: 1 }));

/** Splits a static model over CPU ranks. */
export const shard = (
  model: string,
  out: string,
  ranks: number,
  options: Partial<SplitRequest & PartitionOptions> = {},
): Promise<Manifest> =>
  partition({ model: { path: model }, devices: cpus(ranks), dims: {}, wire: 'fp32', ...options }, out, options);

/** Launches the directory's workers, one thread each; the caller closes them. */
export const launch = (directory: string, manifest: Manifest) =>
  launchCluster({
    shardDirectory: directory,
    manifest,
    profile: 'static',
    devices: manifest.ranks.map(() => ({ provider: 'cpu', deviceId: 0, threads: 1 })),
  });

/** One step of a directory's workers on seeded inputs. */
export const predict = async (directory: string, manifest: Manifest): Promise<Float32Array> => {
  const cluster = await launch(directory, manifest);
  try {
    const outputs = await cluster.network().step(randomInputs(cluster.network().inputs, 0));
    return toFloats(Object.values(outputs)[0]);
  } finally {
    await cluster.close();
  }
};

/** Largest difference, relative to the largest element of `expected`. */
export const relativeError = (found: Float32Array, expected: Float32Array): number => {
  if (found.length !== expected.length || expected.length === 0) return Number.POSITIVE_INFINITY;
  const largest = expected.reduce((peak, value) => Math.max(peak, Math.abs(value)), 0);
  return (
    expected.reduce((peak, value, index) => Math.max(peak, Math.abs(value - (found[index] ?? Number.NaN))), 0) / largest
  );
};
