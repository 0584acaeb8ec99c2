/** What a MODEL argument means: a diffusers-layout directory's denoiser, or a bare `.onnx` file. */
import { basename, join, resolve } from 'node:path';
import { TandemError } from '../../common/errors.js';
import { ownPath } from '../../common/own-files.js';
import { DENOISER_FILES, exportAdvice, kindOf } from '../export-advice.js';

export interface DenoiserModel {
  /** The denoiser's `.onnx` file, absolute. */
  readonly path: string;
  /** The diffusers-layout directory that it is part of, absolute; absent for a bare file. */
  readonly directory?: string;
  /** For messages and for the names of shard directories. */
  readonly name: string;
}

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
      const message = `Expected a diffusers-layout directory with ${DENOISER_FILES.join(' or ')}; ${model} has neither.${exportAdvice(model) || ' Name the .onnx file itself, or export the model with Optimum.'}`;
      throw new TandemError('MODEL_MISSING', message);
    }
    case 'missing': {
      const message = `Expected a diffusers-layout directory or an .onnx file at ${model}; there is nothing.${exportAdvice(model) || ` The model that ships is ${ownPath('models/emoji-sd')}.`}`;
      throw new TandemError('MODEL_MISSING', message);
    }
    default:
      return kind satisfies never;
  }
};
