/** Tells whether prepared shards were made from this model, with these options, by this version. */
import { createHash } from 'node:crypto';
import { readdirSync, readFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { TOOL_VERSION } from '../../common/version.js';
import type { DeviceSpec, SplitRequest } from '../../partition/index.js';
import { FORMAT_VERSION } from '../../partition/write/manifest.js';
import { modelDigests } from './model-facts.js';

const PARTITIONER = ['common', 'partition'].map((folder) =>
  fileURLToPath(new URL(`../../${folder}/`, import.meta.url)),
);

let ownDigest: string | undefined;

/** Digest of the partitioner's own code: between releases a version number does not tell one from the next. */
const partitionerDigest = (): string => {
  ownDigest ??= digestCode();
  return ownDigest;
};

const digestCode = (): string => {
  const hash = createHash('sha256');
  for (const folder of PARTITIONER) {
    const files = readdirSync(folder, { recursive: true, encoding: 'utf8' }).filter((file) => file.endsWith('.js'));
    for (const file of files.sort()) hash.update(file).update(readFileSync(`${folder}${file}`));
  }
  return hash.digest('hex');
};

/** What the planner looks at; threads and device numbers do not change a plan. */
const planned = ({ provider, speed, memoryLimit, bufferLimit, rates, link }: DeviceSpec): readonly unknown[] => [
  provider,
  speed,
  memoryLimit,
  bufferLimit,
  rates,
  link,
];

const digestOf = (identity: unknown): string => createHash('sha256').update(JSON.stringify(identity)).digest('hex');

/** What names shards. */
export interface ShardNames {
  /** 8 hex digits: the same for all sizes of one model. */
  readonly kin: string;
  /** 16 hex digits. */
  readonly own: string;
}

/**
 * As `fingerprint`, and what shards of other sizes have in common with it.
 * @param root where shard directories are kept
 */
export const shardNames = async (request: SplitRequest, root: string): Promise<ShardNames> => {
  const own = await identityOf(request, root);
  return { kin: digestOf({ ...own, dims: undefined }).slice(0, 8), own: digestOf(own).slice(0, 16) };
};

/**
 * 16 hex digits that change with the model's files, the split, the sizes, the wire type, the kind of weights and Tandem itself. What the segments
 * were optimised for is in the manifest, which can then say how it differs from this machine.
 * @param root where shard directories are kept, and with them what is remembered of models
 */
export const fingerprint = async (request: SplitRequest, root: string): Promise<string> =>
  (await shardNames(request, root)).own;

const identityOf = async (request: SplitRequest, root: string) => ({
  versions: [FORMAT_VERSION, TOOL_VERSION, partitionerDigest()],
  files: await modelDigests(request.model.path, root),
  devices: request.devices.map(planned),
  dims: Object.entries(request.dims).sort(([a], [b]) => a.localeCompare(b)),
  wire: request.wire,
  quantize: request.quantize ?? 'none',
  split: request.split ?? 'tensor',
  outputs: request.outputs,
  stretch: request.stretch,
});
