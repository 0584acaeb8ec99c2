/** What a MODEL argument means: a diffusers-layout directory's denoiser, or a bare `.onnx` file. */
import { statSync } from 'node:fs';
import { basename, dirname, join, resolve } from 'node:path';
import { TandemError } from '../../common/errors.js';

/** Where diffusers puts the denoiser: a diffusion transformer or a UNet. */
const DENOISER_FILES = [join('unet', 'model.onnx'), join('transformer', 'model.onnx')] as const;

/** What a directory has before its export, in the same folders. */
const PYTORCH_FILES = [
  'diffusion_pytorch_model.safetensors',
  'diffusion_pytorch_model.safetensors.index.json',
  'diffusion_pytorch_model.fp16.safetensors',
  'diffusion_pytorch_model.bin',
] as const;

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

/** `owner/name`, as model hubs name their models. */
const HUB_NAME = /^[A-Za-z0-9][\w.-]*\/[A-Za-z0-9][\w.-]*$/;

const exportCommand = (model: string): string =>
  `pip install "optimum[exporters,onnxruntime]" diffusers && optimum-cli export onnx --model ${model} ${basename(model)}-onnx`;

/** What would make a model out of what was named; empty where that is not known. */
export const exportAdvice = (model: string): string => {
  const absolute = resolve(model);
  if (kindOf(absolute) === 'missing')
    return HUB_NAME.test(model)
      ? ` Nothing is downloaded here; a model of that name on a hub is exported with: ${exportCommand(model)}`
      : '';
  const parts = DENOISER_FILES.map((file) => join(absolute, dirname(file)));
  const isPyTorch = parts.some((part) => PYTORCH_FILES.some((file) => kindOf(join(part, file)) === 'file'));
  return isPyTorch ? ` It holds PyTorch weights, which are exported with: ${exportCommand(model)}` : '';
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
      const message = `Expected a diffusers-layout directory with ${DENOISER_FILES.join(' or ')}; ${model} has neither.${exportAdvice(model) || ' Name the .onnx file itself, or export the model with Optimum.'}`;
      throw new TandemError('MODEL_MISSING', message);
    }
    case 'missing': {
      const message = `Expected a diffusers-layout directory or an .onnx file at ${model}; there is nothing.${exportAdvice(model)}`;
      throw new TandemError('MODEL_MISSING', message);
    }
    default:
      return kind satisfies never;
  }
};
