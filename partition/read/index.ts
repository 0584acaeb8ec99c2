/**
 * The first stage: an ONNX file becomes a graph in memory and a list of weights that stay where they are. Models are
 * larger than memory and than Node's limits for one read, so only the graph and tensors up to 1 KiB are ever held.
 */
import { createHash } from 'node:crypto';
import { stat } from 'node:fs/promises';
import { resolve } from 'node:path';
import { TandemError } from '../../common/errors.js';
import { decodeModel, encodeModel, type ModelProto } from '../onnx/index.js';
import { type DigestOptions, digestModel } from './digest.js';
import { readSkeleton } from './skeleton.js';
import { collectWeights, type WeightSource } from './weights.js';

export type { DigestOptions } from './digest.js';
export { tensorBytes, toDType, toShape } from './tensor-bytes.js';
export type { WeightSource } from './weights.js';

/** A model as its file has it. */
export interface SourceModel {
  /** Absolute path of the file. */
  readonly path: string;
  /**
   * The graph. Initializers that are in `weights` have name, type and dims but no data; all other tensors have their data
   * inline. Large Constant nodes have become initializers.
   */
  readonly model: ModelProto;
  /** Tensors over 1 KiB, by name, in the order of the graph's initializers. */
  readonly weights: ReadonlyMap<string, WeightSource>;
  /**
   * sha256 (hex) of the graph as it was read and of all weights, which it reads from disk. Moving weights between the
   * model file and external data does not change it.
   * @throws TandemError WEIGHTS_MISSING or WEIGHTS_TOO_SHORT; the signal's reason when it aborts
   */
  digest(options?: DigestOptions): Promise<string>;
}

export interface ReadOptions {
  /** Whether a missing file of external data is an error; planning needs the graph only. */
  readonly requireWeights: boolean;
}

/**
 * Reads an ONNX model without its weights.
 * @param path an `.onnx` file; external data lies beside it
 * @throws TandemError MODEL_NOT_FOUND, MODEL_NOT_ONNX, MODEL_TRUNCATED, MODEL_MALFORMED, MODEL_NO_GRAPH, MODEL_NO_OPSET; WEIGHTS_MISSING,
 * WEIGHTS_TOO_SHORT, WEIGHTS_SIZE, WEIGHTS_OUTSIDE or WEIGHTS_DTYPE
 */
export const readModel = async (path: string, { requireWeights }: ReadOptions): Promise<SourceModel> => {
  const absolute = resolve(path);
  await checkFile(absolute);
  const model = decode(absolute, readSkeleton(absolute));
  checkGraph(absolute, model);
  const weights = collectWeights(model, absolute, requireWeights);
  const graphDigest = createHash('sha256').update(encodeModel(model)).digest();
  return {
    path: absolute,
    model,
    weights,
    digest: (options) => digestModel(graphDigest, [...weights.values()], options),
  };
};

const checkFile = async (path: string): Promise<void> => {
  try {
    const found = await stat(path);
    if (found.isFile()) return;
    const what = found.isDirectory() ? 'a directory; give the .onnx file in it' : 'not a regular file';
    throw new TandemError('MODEL_NOT_ONNX', `Expected an ONNX model at "${path}", found ${what}.`);
  } catch (cause) {
    if (cause instanceof TandemError) throw cause;
    const { code } = cause as NodeJS.ErrnoException;
    throw new TandemError(
      'MODEL_NOT_FOUND',
      `Expected an ONNX model at "${path}", but no file can be read there (${code}).`,
      { cause },
    );
  }
};

const decode = (path: string, bytes: Uint8Array): ModelProto => {
  try {
    return decodeModel(bytes);
  } catch (cause) {
    const reason = cause instanceof Error ? cause.message : String(cause);
    throw new TandemError(
      'MODEL_MALFORMED',
      `"${path}" is damaged: its graph cannot be decoded (${reason}). Copy or export the file again.`,
      { cause },
    );
  }
};

/** A cut between two top-level fields leaves valid protobuf, so what every model has is asked for. */
const checkGraph = (path: string, { graph, opsetImport }: ModelProto): void => {
  if (!graph || graph.output.length === 0) {
    const found = graph ? 'a graph without outputs' : 'no graph';
    throw new TandemError(
      'MODEL_NO_GRAPH',
      `"${path}" is not a whole ONNX model: expected a graph with outputs, found ${found}. Export the model again.`,
    );
  }
  const imported = new Set(opsetImport.map(({ domain }) => standardDomain(domain)));
  const missing = graph.node.find(({ domain }) => !imported.has(standardDomain(domain)));
  if (!missing) return;
  throw new TandemError(
    'MODEL_NO_OPSET',
    `"${path}" uses ${missing.opType} of domain "${standardDomain(missing.domain)}" but imports no version of that domain: the file is cut off or was not written whole. Copy or export it again.`,
  );
};

const standardDomain = (domain: string): string => (domain === '' ? 'ai.onnx' : domain);
