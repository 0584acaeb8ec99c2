/** What a MODEL argument means: a diffusers-layout directory's denoiser, or a bare `.onnx` file. */
import { statSync } from 'node:fs';
import { basename, join, resolve } from 'node:path';
import { TandemError } from '../../common/errors.js';

/** Where diffusers puts the denoiser: a diffusion transformer or a UNet. */
const DENOISER_FILES = [join('unet', 'model.onnx'), join('transformer', 'model.onnx')] as const;

export interface DenoiserModel {
  /** The denoiser's `.onnx` file, absolute. */
  readonly path: string;
  /** The diffusers-layout directory that it is part of, absolute; absent for a bare file. */
  readonly directory?: string;
  /** For messages and for the names of shard directories. */
  readonly name: string;
}

const kindOf = (path: string): 'file' | 'directory' | 'missing' => {
  const stats = statSync(path, { throwIfNoEntry: false });
  if (!stats) return 'missing';
  return stats.isDirectory() ? 'directory' : 'file';
};

/**
 * Finds the denoiser of a model.
 * @param model diffusers-layout directory or `.onnx` file
 * @throws TandemError `MODEL_MISSING` where there is neither
 */
export const findDenoiserModel = (model: string): DenoiserModel => {
  const absolute = resolve(model);
  const kind = kindOf(absolute);
  switch (kind) {
    case 'file':
      return { path: absolute, name: basename(absolute, '.onnx') };
    case 'directory': {
      const found = DENOISER_FILES.map((file) => join(absolute, file)).find((file) => kindOf(file) === 'file');
      if (found !== undefined) return { path: found, directory: absolute, name: basename(absolute) };
      const message = `Expected a diffusers-layout directory with ${DENOISER_FILES.join(' or ')}; ${model} has neither. Name the .onnx file itself, or export the model with Optimum.`;
      throw new TandemError('MODEL_MISSING', message);
    }
    case 'missing': {
      const message = `Expected a diffusers-layout directory or an .onnx file at ${model}; there is nothing.`;
      throw new TandemError('MODEL_MISSING', message);
    }
    default:
      return kind satisfies never;
  }
};
