/**
 * The shipped model's shards for the clusters that most tests start, made once for all of them, as a user's cache has them after the
 * first picture. They are kept from run to run for as long as the code that made them stays as it is.
 */
import { createHash } from 'node:crypto';
import { cpSync, existsSync, mkdirSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { join, resolve } from 'node:path';

/** In place of the user's own; what a test starts inherits it. */
export const CACHE = resolve('out/test-cache');

const KEY_FILE = join(CACHE, 'key');

/** Digest of the code that plans and writes shards. */
const codeKey = (): string => {
  const hash = createHash('sha256').update(process.version);
  for (const folder of ['common', 'partition']) {
    const files = readdirSync(join('dist', folder), { recursive: true, encoding: 'utf8' });
    for (const file of files.filter((name) => name.endsWith('.js')).sort())
      hash.update(file).update(readFileSync(join('dist', folder, file)));
  }
  return hash.digest('hex');
};

/** One worker, two with a part of every tensor each, and two that the plan uses as it likes. */
const CLUSTERS = [
  'devices: [{ provider: cpu, threads: 1 }]',
  'devices: [{ provider: cpu, threads: 1 }, { provider: cpu, threads: 1 }]\nparallel: tensor',
  'devices: [{ provider: cpu, threads: 1 }, { provider: cpu, threads: 1 }]',
];

const prepare = async (): Promise<void> => {
  const { followPlan, parseClusterConfig } = await import('#tandem/coordinator/index.js');
  const { planModel, planPicture } = await import('#tandem/coordinator/generate/picture.js');
  const { prepareMesh } = await import('#tandem/coordinator/mesh/index.js');
  for (const lines of CLUSTERS) {
    const written = parseClusterConfig(`model: ${resolve('models/emoji-sd')}\n${lines}\n`, join(CACHE, 'cluster.yaml'));
    const config = await followPlan(written, (one) => planPicture(one));
    await prepareMesh(config, await planModel(config), {});
  }
};

/** The set-up of a whole run (`globalSetup` of Vitest). */
export default async (): Promise<void> => {
  const key = codeKey();
  if (existsSync(KEY_FILE) && readFileSync(KEY_FILE, 'utf8') === key) return;
  rmSync(CACHE, { recursive: true, force: true });
  mkdirSync(CACHE, { recursive: true });
  process.env.XDG_CACHE_HOME = CACHE;
  await prepare();
  writeFileSync(KEY_FILE, key);
};

/** A cache of a test's own that has what is prepared; whatever else the test makes nobody meets. */
export const copyPrepared = (directory: string): void =>
  cpSync(join(CACHE, 'tandem'), join(directory, 'tandem'), { recursive: true });
