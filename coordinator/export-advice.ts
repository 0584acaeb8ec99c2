/** What would make a model out of something that is none yet: a name on a hub, or a directory of PyTorch weights. */
import { statSync } from 'node:fs';
import { basename, dirname, join, resolve } from 'node:path';

/** Where diffusers puts the denoiser: a diffusion transformer or a UNet. */
export const DENOISER_FILES = [join('unet', 'model.onnx'), join('transformer', 'model.onnx')] as const;

/** What a directory has before its export, in the same folders. */
const PYTORCH_FILES = [
  'diffusion_pytorch_model.safetensors',
  'diffusion_pytorch_model.safetensors.index.json',
  'diffusion_pytorch_model.fp16.safetensors',
  'diffusion_pytorch_model.bin',
] as const;

export const kindOf = (path: string): 'file' | 'directory' | 'missing' => {
  // No file has a NUL in its name, and asking for one is an error of another kind than that it is missing.
  const stats = path.includes('\0') ? undefined : statSync(path, { throwIfNoEntry: false });
  if (!stats) return 'missing';
  return stats.isDirectory() ? 'directory' : 'file';
};

/** `owner/name`, as model hubs name their models. */
const HUB_NAME = /^[A-Za-z0-9][\w.-]*\/[A-Za-z0-9][\w.-]*$/;

const exportCommand = (model: string): string =>
  `pip install "optimum[onnxruntime]" diffusers && optimum-cli export onnx --model ${model} ${basename(model)}-onnx`;

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
