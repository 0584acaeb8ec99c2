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
  const { size, mtimeMs, ctimeMs, ino } = await stat(path);
  return { path, size, mtimeMs, ctimeMs, ino };
};

const lookAll = (paths: readonly string[]): Promise<readonly KnownFile[]> => Promise.all(paths.map(look));

const isUnchanged = async ({ files }: ModelFacts): Promise<boolean> => {
  const now = await lookAll(files.map(({ path }) => path)).catch(() => undefined);
  return JSON.stringify(now) === JSON.stringify(files);
};

/**
 * The facts of a network.
 * @param path its `.onnx` file
 * @param root where shard directories are kept, and with them what is remembered of models
 * @throws TandemError as `inspect`, also where files of weights are missing
 */
export const modelFacts = async (path: string, root: string): Promise<ModelFacts> => {
  const absolute = resolve(path);
  const file = join(root, 'models', `${createHash('sha256').update(absolute).digest('hex').slice(0, 16)}.json`);
  const known = recall(file, TOOL_VERSION, schema);
  if (known !== undefined && (await isUnchanged(known))) return known;
  const { inspect } = await import('../../partition/index.js');
  const { inputs, outputs, files } = await inspect(absolute, { requireWeights: true });
  const facts = { inputs, outputs, files: await lookAll([...files].sort()) };
  remember(file, TOOL_VERSION, facts);
  return facts;
};
