/** Reads a shard directory's manifest and checks it: its form by a schema, what a schema cannot say by rules. */
import { readFile, stat } from 'node:fs/promises';
import { join } from 'node:path';
import { z } from 'zod';
import { TandemError } from '../../common/errors.js';
import type { Provider } from '../../common/onnxruntime.js';
import { DTYPES, type DType } from '../../common/tensor.js';
import { FORMAT_VERSION, MANIFEST_FILE, type Manifest, WIRE_DTYPES } from './manifest.js';
import { manifestProblems } from './manifest-rules.js';

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
  ranks: z.array(
    z.strictObject({ segments: z.array(segment).min(1), whole: z.record(z.string(), z.string()).exactOptional() }),
  ),
});

const optimisedFor = z.strictObject({
  provider: z.enum(['cpu', 'cuda', 'webgpu', 'dml', 'coreml'] satisfies Provider[]),
  onnxruntime_version: z.string(),
  layout: sha256,
});

const rankEntry = z.strictObject({
  rank: count,
  folder: path,
  weights: path,
  shared: path.exactOptional(),
  weight_bytes: count,
  prepared: optimisedFor.exactOptional(),
});

const manifestSchema: z.ZodType<Manifest> = z.strictObject({
  format_version: z.literal(FORMAT_VERSION),
  tool_version: z.string(),
  model: z.strictObject({ name: z.string(), sha256 }),
  world_size: z.number().int().positive(),
  wire_dtype: z.enum(WIRE_DTYPES),
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
