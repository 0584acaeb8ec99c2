/** Tells whether prepared shards were made from this model, with these options, by this version. */
import { createHash } from 'node:crypto';
import { readdir, readFile, stat } from 'node:fs/promises';
import { fileURLToPath } from 'node:url';
import type { Split } from '../../partition/index.js';
import { FORMAT_VERSION } from '../../partition/manifest.js';
import { readModel } from '../../partition/read.js';
import type { DeviceConfig } from '../config/index.js';
import { TOOL_VERSION } from '../version.js';
import type { Dims } from './dims.js';

export interface FingerprintRequest {
  /** The denoiser's `.onnx` file. */
  readonly modelPath: string;
  readonly devices: readonly DeviceConfig[];
  readonly dims: Dims;
  readonly wireDtype: 'fp32' | 'fp16';
  readonly split?: Split;
}

/** Path, size and time of change stand for a file's content: a digest of 3.4 GB would cost seconds at every start. */
const fileIdentity = async (path: string): Promise<readonly [string, number, number]> => {
  const { size, mtimeMs } = await stat(path);
  return [path, size, mtimeMs];
};

/** The model's own file and those that hold its weights. */
const modelFiles = async (path: string): Promise<readonly string[]> => {
  const { weights } = await readModel(path, { requireWeights: true });
  return [...new Set([path, ...[...weights.values()].map((weight) => weight.file)])].sort();
};

const PARTITIONER = fileURLToPath(new URL('../../partition/', import.meta.url));

/** Digest of the partitioner's own code: between releases a version number does not tell one from the next. */
const partitionerDigest = async (): Promise<string> => {
  const files = (await readdir(PARTITIONER, { recursive: true })).filter((file) => file.endsWith('.js')).sort();
  const hash = createHash('sha256');
  for (const file of files) hash.update(file).update(await readFile(`${PARTITIONER}${file}`));
  return hash.digest('hex');
};

/** What the planner looks at; threads and device numbers do not change a plan. */
const planned = ({ provider, speed, memoryLimit, rates }: DeviceConfig): readonly unknown[] => [
  provider,
  speed,
  memoryLimit,
  rates,
];

/**
 * 16 hex digits that change with the model's files, the split, the sizes, the wire type and Tandem itself. What the segments
 * were prepared for is in the manifest, which can then say how it differs from this machine.
 */
export const fingerprint = async (request: FingerprintRequest): Promise<string> => {
  const files = await modelFiles(request.modelPath);
  const identity = {
    versions: [FORMAT_VERSION, TOOL_VERSION, await partitionerDigest()],
    files: await Promise.all(files.map(fileIdentity)),
    devices: request.devices.map(planned),
    dims: Object.entries(request.dims).sort(([a], [b]) => a.localeCompare(b)),
    wire: request.wireDtype,
    split: request.split ?? 'tensor',
  };
  return createHash('sha256').update(JSON.stringify(identity)).digest('hex').slice(0, 16);
};
