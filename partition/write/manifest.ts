/**
 * What a shard directory contains: `manifest.json` beside one folder per rank, each with the rank's weights file and
 * its segment graphs. This is the one agreement between `partition/`, which writes it, and `shard-worker/`, which runs it.
 *
 * A rank's program is `run segment 0, exchange, run segment 1, exchange, ...`. A worker knows nothing of collectives:
 * after a segment it sends some of its tensors to peers and receives some from them; every sum, slice, concatenation and
 * cast that makes this an all-reduce, a reduce-scatter or an all-gather is inside the segments' graphs.
 */
import { readFile, stat } from 'node:fs/promises';
import { join } from 'node:path';
import { z } from 'zod';
import { TandemError } from '../../common/errors.js';
import type { Provider } from '../../common/onnxruntime.js';
import { DTYPES, type DType, type OpenSpec, type TensorSpec } from '../../common/tensor.js';
import { manifestProblems } from './manifest-rules.js';

export const MANIFEST_FILE = 'manifest.json';
export const FORMAT_VERSION = 1;

/** A file of the shard directory. */
export interface FileEntry {
  /** Relative to the shard directory, with forward slashes. */
  readonly path: string;
  readonly bytes: number;
  /** Hex digest. */
  readonly sha256: string;
  /** Hex; see `checksum.ts`. Workers prove the file by it rather than by the digest, which takes five times as long. */
  readonly gmac?: string;
}

/** One tensor that leaves a rank after a segment; `tensor` is one of that segment's outputs. */
export interface Send {
  readonly tensor: string;
  readonly to: readonly number[];
}

/** One tensor that arrives before the next segment; `name` is how later segments call it, `tensor` how its sender does. */
export interface Receive extends TensorSpec {
  readonly from: number;
  readonly tensor: string;
}

/** A stretch of a rank's graph without communication. */
export interface SegmentEntry {
  /** Relative to the shard directory; one of `Manifest.files`. */
  readonly file: string;
  /** Names fed to the session: model inputs, earlier segments' outputs, or received tensors. */
  readonly inputs: readonly string[];
  /**
   * Fetched from the session; those that are not sent stay with the rank for later segments. A size that depends on data is null,
   * and so is the shape of a tensor whose number of axes does; such a tensor is whole on every rank, and never sent.
   */
  readonly outputs: readonly OpenSpec[];
  readonly sends: readonly Send[];
  readonly receives: readonly Receive[];
  /** Names that nothing later reads: they may be freed once this segment has run and its sends are done. */
  readonly release: readonly string[];
}

/** A set of fixed sizes, with every rank's program for it. */
export interface Profile {
  /** `batch=2,height=64,width=64`, or `static` where the model has no symbolic dims. */
  readonly name: string;
  /** Symbolic dims by name, as they were fixed. */
  readonly dims: Readonly<Record<string, number>>;
  /** The model's own inputs and outputs, whole; every rank is fed all inputs and ends with all outputs. */
  readonly inputs: readonly TensorSpec[];
  readonly outputs: readonly TensorSpec[];
  /** Bytes that the slowest rank sends per step. */
  readonly wire_bytes_per_step: number;
  /** Index is the rank. */
  readonly ranks: readonly { readonly segments: readonly SegmentEntry[] }[];
}

/** What a rank's segments were optimised for. Elsewhere they fail or, where only the layout differs, compute nonsense. */
export interface PreparedFor {
  readonly provider: Provider;
  readonly onnxruntime_version: string;
  /** Digest of how ONNX Runtime lays out weights on that machine's processor. */
  readonly layout: string;
}

export interface RankEntry {
  readonly rank: number;
  /** Folder of the rank, relative to the shard directory. */
  readonly folder: string;
  /** The rank's weights file, relative to the shard directory. */
  readonly weights: string;
  readonly weight_bytes: number;
  /** Absent where the segments are as the planner made them: then every session optimises its own when it is opened. */
  readonly prepared?: PreparedFor;
}

/** `int8`: the weights of linear layers and convolutions. */
export type Quantize = 'none' | 'int8';
export const QUANTIZE = ['none', 'int8'] as const satisfies readonly Quantize[];

export interface Manifest {
  readonly format_version: number;
  readonly tool_version: string;
  readonly model: {
    /** File name of the model, for messages. */
    readonly name: string;
    /** Digest of the graph and of its weights; two models with the same digest are the same model. */
    readonly sha256: string;
  };
  readonly world_size: number;
  readonly wire_dtype: 'fp32' | 'fp16';
  /** Absent where weights are as the model has them. */
  readonly quantize?: 'int8';
  readonly ranks: readonly RankEntry[];
  readonly profiles: readonly Profile[];
  readonly files: readonly FileEntry[];
}

const count = z.number().int().nonnegative();
const sha256 = z.string().regex(/^[0-9a-f]{64}$/, 'expected 64 hex digits');
const gmac = z.string().regex(/^[0-9a-f]{32}$/, 'expected 32 hex digits');
const names = z.array(z.string());

/** Whatever the system calls a path: a manifest can neither read nor claim files elsewhere. */
const path = z
  .string()
  .refine(
    (text) =>
      /^[^\\/:\0]+(\/[^\\/:\0]+)*$/.test(text) && !text.split('/').some((part) => part === '..' || part === '.'),
    'expected a path inside the shard directory, with forward slashes',
  );

const spec = {
  name: z.string().min(1),
  dtype: z.enum(Object.keys(DTYPES) as [DType, ...DType[]]),
  shape: z.array(count),
};
const tensorSpec = z.strictObject(spec);
const openSpec = z.strictObject({ ...spec, shape: z.array(count.nullable()).nullable() });

const segment = z.strictObject({
  file: path,
  inputs: names,
  outputs: z.array(openSpec),
  sends: z.array(z.strictObject({ tensor: z.string(), to: z.array(count).min(1) })),
  receives: z.array(z.strictObject({ ...spec, from: count, tensor: z.string() })),
  release: names,
});

const profile = z.strictObject({
  name: z.string().min(1),
  dims: z.record(z.string(), count),
  inputs: z.array(tensorSpec),
  outputs: z.array(tensorSpec).min(1),
  wire_bytes_per_step: z.number().nonnegative(),
  ranks: z.array(z.strictObject({ segments: z.array(segment).min(1) })),
});

const preparedFor = z.strictObject({
  provider: z.enum(['cpu', 'cuda', 'webgpu', 'dml', 'coreml'] satisfies Provider[]),
  onnxruntime_version: z.string(),
  layout: sha256,
});

const rankEntry = z.strictObject({
  rank: count,
  folder: path,
  weights: path,
  weight_bytes: count,
  prepared: preparedFor.exactOptional(),
});

const manifestSchema: z.ZodType<Manifest> = z.strictObject({
  format_version: z.literal(FORMAT_VERSION),
  tool_version: z.string(),
  model: z.strictObject({ name: z.string(), sha256 }),
  world_size: z.number().int().positive(),
  wire_dtype: z.enum(['fp32', 'fp16']),
  quantize: z.literal('int8').exactOptional(),
  ranks: z.array(rankEntry),
  profiles: z.array(profile).min(1),
  files: z.array(z.strictObject({ path, bytes: count, sha256, gmac: gmac.exactOptional() })),
});

const REMEDY = 'make it again with "tandem partition"';

const checkDirectory = async (directory: string): Promise<void> => {
  const found = await stat(directory).catch(() => undefined);
  if (found === undefined) {
    throw new TandemError('SHARD_DIRECTORY_MISSING', `Shard directory "${directory}" does not exist; ${REMEDY}.`);
  }
  if (!found.isDirectory()) {
    throw new TandemError(
      'SHARD_DIRECTORY_INVALID',
      `Expected a shard directory, but "${directory}" is not a directory.`,
    );
  }
};

const readText = async (directory: string): Promise<string> => {
  await checkDirectory(directory);
  return readFile(join(directory, MANIFEST_FILE), 'utf8').catch((cause: unknown) => {
    throw new TandemError(
      'SHARD_DIRECTORY_INVALID',
      `"${directory}" is not a shard directory: it has no readable ${MANIFEST_FILE}; ${REMEDY}.`,
      { cause },
    );
  });
};

const parseJson = (directory: string, text: string): unknown => {
  try {
    return JSON.parse(text);
  } catch (cause) {
    const path = join(directory, MANIFEST_FILE);
    throw new TandemError('SHARD_MANIFEST_INVALID', `"${path}" is not JSON; ${REMEDY}.`, { cause });
  }
};

/** Another version's manifest fails in many places; the version is the one problem worth telling. */
const checkVersion = (directory: string, json: unknown): void => {
  const found = typeof json === 'object' && json !== null ? Reflect.get(json, 'format_version') : undefined;
  if (found === FORMAT_VERSION) return;
  if (typeof found !== 'number') {
    throw new TandemError(
      'SHARD_MANIFEST_INVALID',
      `The ${MANIFEST_FILE} in "${directory}" has no format_version; ${REMEDY}.`,
    );
  }
  throw new TandemError(
    'SHARD_FORMAT_VERSION',
    `Shard directory "${directory}" has format version ${found}, but this Tandem reads version ${FORMAT_VERSION}; ${REMEDY}.`,
  );
};

/**
 * Checks a manifest that was read from JSON.
 * @param directory the shard directory, for messages
 * @throws TandemError `SHARD_FORMAT_VERSION`, or `SHARD_MANIFEST_INVALID` with all the problems
 */
export const parseManifest = (directory: string, text: string): Manifest => {
  const json = parseJson(directory, text);
  checkVersion(directory, json);
  const parsed = manifestSchema.safeParse(json);
  const problems = parsed.success
    ? manifestProblems(parsed.data)
    : parsed.error.issues.map((issue) => `${issue.path.join('.') || MANIFEST_FILE}: ${issue.message}`);
  if (parsed.success && problems.length === 0) return parsed.data;
  throw new TandemError(
    'SHARD_MANIFEST_INVALID',
    `The ${MANIFEST_FILE} in "${directory}" is not valid (${problems.length} problems, first: ${problems[0]}); ${REMEDY}.`,
    { problems },
  );
};

/**
 * Reads and checks a shard directory's manifest; the files that it lists are not looked at.
 * @throws TandemError `SHARD_DIRECTORY_MISSING`, `SHARD_DIRECTORY_INVALID`, `SHARD_FORMAT_VERSION`, `SHARD_MANIFEST_INVALID`
 */
export const readManifest = async (directory: string): Promise<Manifest> =>
  parseManifest(directory, await readText(directory));
