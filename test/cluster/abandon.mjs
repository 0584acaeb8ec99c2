// A coordinator that starts an endless step, prints its workers' pids, and waits to be killed.
import { launchCluster } from '#tandem/coordinator/cluster/index.js';
import { readManifest } from '#tandem/partition/write/read-manifest.js';

const [shardDirectory, count] = process.argv.slice(2);
const cluster = await launchCluster({
  shardDirectory,
  manifest: await readManifest(shardDirectory),
  profile: 'static',
  devices: [0, 1].map(() => ({ provider: 'cpu', deviceId: 0, threads: 1 })),
});
const iterations = { dtype: 'int64', shape: [], data: new Uint8Array(BigInt64Array.of(BigInt(count)).buffer) };
void cluster.network().step({ iterations });
process.stdout.write(JSON.stringify(cluster.workers.map((worker) => worker.pid)));
