/**
 * What a start must know of a model's graph. A graph is read once: with all that must be loaded to read one, that was a third of
 * a warm start. Later starts remember what they need, for as long as the model's files stay as they are.
 */
import { createHash } from 'node:crypto';
import { stat } from 'node:fs/promises';
import { join, resolve } from 'node:path';
import { z } from 'zod';
import type { TensorMetadata } from '../../common/onnxruntime.js';
import { recall, remember } from '../../common/remembered.js';
import { DTYPES, type DType } from '../../common/tensor.js';
import { TOOL_VERSION } from '../../common/version.js';
import { readThrough } from '../../shard-worker/check.js';
import { plan } from '../planner/index.js';

/** A file as it was when it was looked at. */
export interface KnownFile {
  /** absolute */
  readonly path: string;
  /** bytes */
  readonly size: number;
  /** ms */
  readonly mtimeMs: number;
  readonly ctimeMs: number;
  readonly ino: number;
  readonly dev: number;
}

export interface ModelFacts {
  /** As declared; symbolic dims by name. */
  readonly inputs: readonly TensorMetadata[];
  readonly outputs: readonly TensorMetadata[];
  /** The model's own file and those that hold its weights, by path. */
  readonly files: readonly KnownFile[];
}

const knownFile = z.object({
  path: z.string(),
  size: z.number(),
  mtimeMs: z.number(),
  ctimeMs: z.number(),
  ino: z.number(),
  dev: z.number(),
});
const tensor = z.object({
  name: z.string(),
  dtype: z.enum(Object.keys(DTYPES) as [DType, ...DType[]]),
  shape: z.array(z.union([z.number(), z.string()])),
});
const schema: z.ZodType<ModelFacts> = z.object({
  inputs: z.array(tensor),
  outputs: z.array(tensor),
  files: z.array(knownFile).min(1),
});

const look = async (path: string): Promise<KnownFile> => {
  const { size, mtimeMs, ctimeMs, ino, dev } = await stat(path);
  return { path, size, mtimeMs, ctimeMs, ino, dev };
};

const lookAll = (paths: readonly string[]): Promise<readonly KnownFile[]> => Promise.all(paths.map(look));

type Known = Pick<ModelFacts, 'files'>;

const isUnchanged = async ({ files }: Known): Promise<boolean> => {
  const now = await lookAll(files.map(({ path }) => path)).catch(() => undefined);
  return JSON.stringify(now) === JSON.stringify(files);
};

/** A write within this time of the one before may leave a file's times as they were: file systems count in steps of up to 2 s. */
const SETTLED_MS = 2_000;

const areSettled = ({ files }: Known): boolean => files.every(({ ctimeMs }) => Date.now() - ctimeMs > SETTLED_MS);

/** What was found out holds for files that stayed as they are while it was, and long enough before that a change would show. */
const rememberOf = async <T extends Known>(file: string, facts: T): Promise<T> => {
  if (areSettled(facts) && (await isUnchanged(facts))) remember(file, TOOL_VERSION, facts);
  return facts;
};

const recordOf = (absolute: string, root: string, kind: string): string =>
  join(root, 'models', `${createHash('sha256').update(absolute).digest('hex').slice(0, 16)}${kind}.json`);

/**
 * The facts of a network.
 * @param path its `.onnx` file
 * @param root where shard directories are kept, and with them what is remembered of models
 * @throws TandemError as `inspect`, also where files of weights are missing
 */
export const modelFacts = async (path: string, root: string): Promise<ModelFacts> => {
  const absolute = resolve(path);
  const file = recordOf(absolute, root, '');
  const known = recall(file, TOOL_VERSION, schema);
  if (known !== undefined && (await isUnchanged(known))) return known;
  const { inputs, outputs, files } = await plan('inspect', { path: absolute });
  return rememberOf(file, { inputs, outputs, files: await lookAll([...files].sort()) });
};

/** A model's content: of each of its files, by path, sha256 in hex. */
interface Digests extends Known {
  readonly sha256: readonly string[];
}

const digestsSchema: z.ZodType<Digests> = z.object({
  files: z.array(knownFile).min(1),
  sha256: z.array(z.string().regex(/^[0-9a-f]{64}$/)),
});

const digestOf = async (path: string): Promise<string> => {
  const hash = createHash('sha256');
  await readThrough(path, (piece) => void hash.update(piece));
  return hash.digest('hex');
};

/**
 * Digests of all files of a model. They are read once, and again whenever one may be another than it was: a file that took the
 * place of one with the same size and time of change has a number and a time of its own that nobody can choose.
 * @throws TandemError as `modelFacts`
 */
export const modelDigests = async (path: string, root: string): Promise<readonly string[]> => {
  const { files } = await modelFacts(path, root);
  const record = recordOf(resolve(path), root, '.content');
  const known = recall(record, TOOL_VERSION, digestsSchema);
  if (known !== undefined && JSON.stringify(known.files) === JSON.stringify(files)) return known.sha256;
  const sha256: string[] = [];
  for (const file of files) sha256.push(await digestOf(file.path));
  return (await rememberOf(record, { files, sha256 })).sha256;
};
