/**
 * What a shard directory contains: `manifest.json` beside one folder per rank, each with the rank's weights file and
 * its segment graphs. This is the one agreement between `partition/`, which writes it, and `shard-worker/`, which runs it.
 *
 * A rank's program is `run segment 0, exchange, run segment 1, exchange, ...`. A worker knows nothing of collectives:
 * after a segment it sends some of its tensors to peers and receives some from them; every sum, slice, concatenation and
 * cast that makes this an all-reduce or an all-gather is inside the segments' graphs.
 */
import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { z } from 'zod';
import { TandemError } from './errors.js';
import type { Provider } from './onnxruntime.js';
import { DTYPES, type DType, type TensorSpec } from './tensor.js';

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
  /** Fetched from the session; those that are not sent stay with the rank for later segments. */
  readonly outputs: readonly TensorSpec[];
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

/** Inside the shard directory whatever the system, so that a manifest can neither read nor claim files elsewhere. */
const path = z
  .string()
  .regex(/^[^\\/:\0]+(\/[^\\/:\0]+)*$/, 'expected a relative path with forward slashes')
  .refine((text) => !text.split('/').some((part) => part === '..' || part === '.'), 'expected a path without ".."');
const sha256 = z.string().regex(/^[0-9a-f]{64}$/, 'expected a sha256 digest in hex');
const gmac = z.string().regex(/^[0-9a-f]{32}$/, 'expected a GMAC in hex');
const count = z.number().int().nonnegative();
const names = z.array(z.string());
const dtype = z.enum(Object.keys(DTYPES) as [DType, ...DType[]]);
const tensorSpec = z.strictObject({ name: z.string(), dtype, shape: z.array(count) });

const segment = z.strictObject({
  file: path,
  inputs: names,
  outputs: z.array(tensorSpec),
  sends: z.array(z.strictObject({ tensor: z.string(), to: z.array(count) })),
  receives: z.array(z.strictObject({ ...tensorSpec.shape, from: count, tensor: z.string() })),
  release: names,
});

const profile = z.strictObject({
  name: z.string(),
  dims: z.record(z.string(), count),
  inputs: z.array(tensorSpec),
  outputs: z.array(tensorSpec),
  wire_bytes_per_step: z.number().nonnegative(),
  ranks: z.array(z.strictObject({ segments: z.array(segment) })),
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

/** What the types cannot say: that the parts of a manifest agree with each other. Returns all the problems. */
const findDisagreements = (manifest: Manifest): readonly string[] => {
  const problems: string[] = [];
  const files = new Set(manifest.files.map((file) => file.path));
  const expectFile = (where: string, file: string) => {
    if (!files.has(file)) problems.push(`${where}: "${file}" is not one of "files"`);
  };
  const expectRanks = (where: string, found: number) => {
    if (found !== manifest.world_size) problems.push(`${where}: expected ${manifest.world_size} ranks, found ${found}`);
  };
  const expectPeer = (where: string, self: number, peer: number) => {
    if (peer >= manifest.world_size || peer === self)
      problems.push(`${where}: rank ${peer} is no peer of rank ${self}`);
  };
  expectRanks('ranks', manifest.ranks.length);
  manifest.ranks.forEach((entry, index) => {
    if (entry.rank !== index) problems.push(`ranks.${index}.rank: expected ${index}, found ${entry.rank}`);
    expectFile(`ranks.${index}.weights`, entry.weights);
    if (manifest.quantize && !entry.prepared)
      problems.push(`ranks.${index}.prepared: missing, but "quantize" is "${manifest.quantize}"`);
  });
  for (const { name, ranks } of manifest.profiles) {
    expectRanks(`profile "${name}"`, ranks.length);
    ranks.forEach(({ segments }, rank) => {
      segments.forEach((entry, index) => {
        const where = `profile "${name}", rank ${rank}, segment ${index}`;
        expectFile(where, entry.file);
        for (const peer of entry.sends.flatMap((send) => send.to)) expectPeer(where, rank, peer);
        for (const receive of entry.receives) expectPeer(where, rank, receive.from);
      });
    });
  }
  return problems;
};

const invalid = (directory: string, problems: readonly string[]): TandemError =>
  new TandemError(
    'SHARDS_INVALID',
    `"${join(directory, MANIFEST_FILE)}" is not a valid manifest: ${problems[0]}. Make the shard directory again with "tandem partition".`,
    { problems },
  );

const readText = async (directory: string): Promise<string> => {
  try {
    return await readFile(join(directory, MANIFEST_FILE), 'utf8');
  } catch (cause) {
    const { code } = cause as NodeJS.ErrnoException;
    throw new TandemError(
      'SHARDS_MISSING',
      `Expected a shard directory at "${directory}", but its ${MANIFEST_FILE} cannot be read (${code}). Make one with "tandem partition".`,
      { cause },
    );
  }
};

/** Another version's manifest fails in many places; the version is the one problem worth telling. */
const checkVersion = (directory: string, json: unknown): void => {
  const version = typeof json === 'object' && json !== null ? Reflect.get(json, 'format_version') : undefined;
  if (typeof version !== 'number' || version === FORMAT_VERSION) return;
  throw new TandemError(
    'SHARDS_VERSION',
    `The shard directory "${directory}" has format version ${version}; expected ${FORMAT_VERSION}. Make it again with "tandem partition".`,
  );
};

/**
 * Checks a manifest that was read from JSON.
 * @param directory the shard directory, for messages
 * @throws TandemError SHARDS_VERSION, or SHARDS_INVALID with all the problems
 */
export const parseManifest = (directory: string, text: string): Manifest => {
  const json = parseJson(directory, text);
  checkVersion(directory, json);
  const parsed = manifestSchema.safeParse(json);
  if (!parsed.success) {
    throw invalid(
      directory,
      parsed.error.issues.map((issue) => `${issue.path.join('.') || 'the whole'}: ${issue.message}`),
    );
  }
  const problems = findDisagreements(parsed.data);
  if (problems.length > 0) throw invalid(directory, problems);
  return parsed.data;
};

const parseJson = (directory: string, text: string): unknown => {
  try {
    return JSON.parse(text);
  } catch (cause) {
    throw invalid(directory, [`it is not JSON (${cause instanceof Error ? cause.message : String(cause)})`]);
  }
};

/**
 * Reads and checks the manifest of a shard directory. The files that it lists are not looked at.
 * @throws TandemError SHARDS_MISSING, SHARDS_VERSION, or SHARDS_INVALID with all the problems
 */
export const readManifest = async (directory: string): Promise<Manifest> =>
  parseManifest(directory, await readText(directory));
