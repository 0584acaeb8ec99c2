// A coordinator to do harm to: tells every change of state, with its time, as a line of JSON; "step N" on its standard input runs N
// iterations and tells the digests, "block N" does
// nothing for N ms, "close" ends it in order.
import { cp, rm } from 'node:fs/promises';
import { createInterface } from 'node:readline';
import { launchCluster } from '#tandem/coordinator/cluster/index.js';
import { readManifest } from '#tandem/partition/write/read-manifest.js';

const { original, shardDirectory, directory } = JSON.parse(process.argv[2]);
const say = (kind, more = {}) =>
  process.stdout.write(`${JSON.stringify({ kind, at: performance.timeOrigin + performance.now(), ...more })}\n`);
const wrong = (error) => say('error', { code: error.code ?? 'UNFORESEEN', message: error.message });

try {
  const manifest = await readManifest(original);
  const cluster = await launchCluster({
    shardDirectory,
    manifest,
    profile: 'static',
    devices: manifest.ranks.map(() => ({ provider: 'cpu', deviceId: 0, threads: 1 })),
    detached: { directory, keepWarmMs: 60_000 },
    restart: { maxAttempts: 5, backoffMs: 20, capMs: 200 },
    repair: async () => {
      await rm(shardDirectory, { recursive: true, force: true });
      await cp(original, shardDirectory, { recursive: true });
    },
    onNotice: (message) => say('notice', { message }),
  });
  cluster.onStateChange((state, error) => say('state', { state, code: error?.code }));
  say('ready', { adopted: cluster.workers.map((worker) => worker.adopted) });
  for await (const line of createInterface({ input: process.stdin })) {
    if (line === 'close') break;
    if (line.startsWith('block')) {
      const end = performance.now() + Number(line.split(' ')[1]);
      while (performance.now() < end);
      continue;
    }
    const data = new Uint8Array(BigInt64Array.of(BigInt(line.split(' ')[1])).buffer);
    const step = cluster.step([{ iterations: { dtype: 'int64', shape: [], data } }]);
    step.then(({ ranks }) => say('step', { digests: ranks.map((rank) => rank.outputs_sha256) }), wrong);
  }
  await cluster.close();
  say('closed');
  process.exit(0);
} catch (error) {
  wrong(error);
  process.exit(1);
}
