/** The walking process from the inside: a driver that ends it, ends nothing else. */

import { followRoad } from '../../partition/proof/road.js';
import { readManifest } from '../../partition/write/read-manifest.js';
import { findProfile } from '../../shard-worker/check.js';
import type { FromWalk, WalkOrder } from './by-segment.js';

const say = (message: FromWalk): void => void process.send?.(message);

const walk = async ({ profile: name, ...order }: WalkOrder): Promise<FromWalk> => {
  try {
    const manifest = await readManifest(order.directory);
    const profile = findProfile(manifest, name);
    const onProgress = (done: number, total: number): void => say({ kind: 'progress', done, total });
    return { kind: 'walked', road: await followRoad({ ...order, manifest, profile, onProgress }) };
  } catch (error) {
    return { kind: 'failed', message: error instanceof Error ? error.message : String(error) };
  }
};

process.on('disconnect', () => process.kill(process.pid, 'SIGKILL'));
process.on('message', (order: WalkOrder) => void walk(order).then(say));
