/** Shard directories, workers and processes for the tests of the cluster and of the worker. */
import { cp, readFile, writeFile } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import { TandemError } from '#tandem/common/errors.js';
import type { HostTensor } from '#tandem/common/tensor.js';
import { type Cluster, type LaunchOptions, launchCluster } from '#tandem/coordinator/cluster/index.js';
import { readManifest } from '#tandem/partition/write/read-manifest.js';
import { withDirectory } from '../support/directory.js';

export { isAlive } from '../support/processes.js';
export { withDirectory };

export const FIXTURES = join(dirname(fileURLToPath(import.meta.url)), '..', 'fixtures', 'exchange');
export const fixture = (name: string): string => join(FIXTURES, name);

/** Runs `work` with a copy of a fixture that it may damage. */
export const withCopy = <T>(name: string, work: (directory: string) => Promise<T>): Promise<T> =>
  withDirectory(async (directory) => {
    await cp(fixture(name), directory, { recursive: true });
    return work(directory);
  });

/** Flips one bit in the middle of a file. */
export const flipByte = async (path: string): Promise<void> => {
  const bytes = await readFile(path);
  const middle = bytes.length >> 1;
  bytes.writeUInt8(bytes.readUInt8(middle) ^ 1, middle);
  await writeFile(path, bytes);
};

export const floats = (values: readonly number[], shape: readonly number[]): HostTensor => ({
  dtype: 'float32',
  shape,
  data: new Uint8Array(Float32Array.from(values).buffer),
});

export const toFloats = (tensor: HostTensor | undefined): Float32Array =>
  new Float32Array(new Uint8Array(tensor?.data ?? []).buffer);

/** Input of the `mlp-*` fixtures. */
export const mlpInput = (): Record<string, HostTensor> => ({
  x: floats(
    Array.from({ length: 16 }, (_, i) => Math.sin(i + 1)),
    [2, 8],
  ),
});

/** Input of the `slow` fixture; 100,000 iterations take seconds. */
export const iterations = (count: number): Record<string, HostTensor> => ({
  iterations: { dtype: 'int64', shape: [], data: new Uint8Array(BigInt64Array.of(BigInt(count)).buffer) },
});

export const LONG_STEP = 100_000_000;

/** Launches a fixture's workers, one CPU thread each. */
export const launchDirectory = async (directory: string, overrides: Partial<LaunchOptions> = {}): Promise<Cluster> => {
  const manifest = await readManifest(directory);
  return launchCluster({
    shardDirectory: directory,
    manifest,
    profile: 'static',
    devices: manifest.ranks.map(() => ({ provider: 'cpu', deviceId: 0, threads: 1 })),
    ...overrides,
  });
};

export const launchFixture = (name: string, overrides: Partial<LaunchOptions> = {}): Promise<Cluster> =>
  launchDirectory(fixture(name), overrides);

/** Runs `work` with a fixture's cluster and closes it. */
export const withCluster = async <T>(
  name: string,
  work: (cluster: Cluster) => Promise<T>,
  overrides: Partial<LaunchOptions> = {},
): Promise<T> => {
  const cluster = await launchFixture(name, overrides);
  try {
    return await work(cluster);
  } finally {
    await cluster.close();
  }
};

/** Waits until `condition` holds; fails after `timeoutMs`. */
export const until = async (condition: () => boolean, timeoutMs = 5000): Promise<void> => {
  const end = performance.now() + timeoutMs;
  while (!condition()) {
    if (performance.now() > end) throw new Error(`Condition did not hold within ${timeoutMs} ms.`);
    await delay(10);
  }
};

/** The TandemError with which a promise ends. */
export const errorOf = async (promise: Promise<unknown>): Promise<TandemError> => {
  const error = await promise.then(
    () => undefined,
    (reason: unknown) => reason,
  );
  if (error instanceof TandemError) return error;
  throw new Error(`Expected a TandemError, found ${String(error)}.`);
};
