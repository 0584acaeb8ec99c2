// A coordinator of workers that outlive it: prints a line of JSON once it is ready, runs a step for every line on its
// standard input ("step 7" runs 7 iterations) and prints the digests; ends its workers on SIGTERM.
import { createInterface } from 'node:readline';
import { launchCluster } from '#tandem/coordinator/cluster/index.js';
import { readManifest } from '#tandem/partition/write/read-manifest.js';

const { shardDirectory, directory, keepWarmMs, heartbeatMs, workerEntry } = JSON.parse(process.argv[2]);
const say = (value) => process.stdout.write(`${JSON.stringify(value)}\n`);
const notices = [];

try {
  const manifest = await readManifest(shardDirectory);
  const start = performance.now();
  const cluster = await launchCluster({
    shardDirectory,
    manifest,
    profile: 'static',
    devices: manifest.ranks.map(() => ({ provider: 'cpu', deviceId: 0, threads: 1 })),
    timeouts: { heartbeatMs },
    detached: { directory, keepWarmMs },
    onNotice: (notice) => notices.push(notice),
    ...(workerEntry ? { workerEntry } : {}),
  });
  // Before it says that it is ready: from then on it may be told to stop.
  process.on('SIGTERM', () => void cluster.close().then(() => process.exit(0)));
  say({ launchMs: performance.now() - start, workers: cluster.workers, warm: cluster.warm, notices });
  for await (const line of createInterface({ input: process.stdin })) {
    const iterations = { dtype: 'int64', shape: [], data: new Uint8Array(BigInt64Array.of(BigInt(line)).buffer) };
    const { ranks } = await cluster.step([{ iterations }]);
    say({ digests: ranks.map((rank) => rank.outputs_sha256) });
  }
} catch (error) {
  say({ error: error.code, message: error.message });
  process.exit(1);
}
