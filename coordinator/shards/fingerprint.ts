/** Tells whether prepared shards were made from this model, with these options, by this version. */
import { createHash } from 'node:crypto';
import { readdirSync, readFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { TOOL_VERSION } from '../../common/version.js';
import type { Split } from '../../partition/index.js';
import type { Quantize } from '../../partition/write/manifest.js';
import { FORMAT_VERSION } from '../../partition/write/manifest.js';
import type { DeviceConfig } from '../config/index.js';
import type { Dims } from './dims.js';
import { modelDigests } from './model-facts.js';

export interface FingerprintRequest {
  /** The denoiser's `.onnx` file. */
  readonly modelPath: string;
  readonly devices: readonly DeviceConfig[];
  readonly dims: Dims;
  readonly wireDtype: 'fp32' | 'fp16';
  readonly quantize: Quantize;
  /** Where shard directories are kept. */
  readonly root: string;
  readonly split?: Split;
  readonly outputs?: readonly string[];
}

const PARTITIONER = ['common', 'partition'].map((folder) =>
  fileURLToPath(new URL(`../../${folder}/`, import.meta.url)),
);

/** Digest of the partitioner's own code: between releases a version number does not tell one from the next. */
const partitionerDigest = (): string => {
  const hash = createHash('sha256');
  for (const folder of PARTITIONER) {
    const files = readdirSync(folder, { recursive: true, encoding: 'utf8' }).filter((file) => file.endsWith('.js'));
    for (const file of files.sort()) hash.update(file).update(readFileSync(`${folder}${file}`));
  }
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
 * 16 hex digits that change with the model's files, the split, the sizes, the wire type, the kind of weights and Tandem itself. What the segments
 * were prepared for is in the manifest, which can then say how it differs from this machine.
 */
export const fingerprint = async (request: FingerprintRequest): Promise<string> => {
  const identity = {
    versions: [FORMAT_VERSION, TOOL_VERSION, partitionerDigest()],
    files: await modelDigests(request.modelPath, request.root),
    devices: request.devices.map(planned),
    dims: Object.entries(request.dims).sort(([a], [b]) => a.localeCompare(b)),
    wire: request.wireDtype,
    quantize: request.quantize,
    split: request.split ?? 'tensor',
    outputs: request.outputs,
  };
  return createHash('sha256').update(JSON.stringify(identity)).digest('hex').slice(0, 16);
};
