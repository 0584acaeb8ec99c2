/** Where external data may lie: inside the model's own folder, as ONNX Runtime demands of the graphs that it loads. */
import { realpathSync, statSync } from 'node:fs';
import { dirname, isAbsolute, join, relative, resolve, sep, win32 } from 'node:path';

/** What a tensor's `location` leads to. */
export type ExternalFile =
  | { readonly kind: 'present'; readonly path: string; readonly size: number }
  | { readonly kind: 'missing'; readonly path: string }
  | { readonly kind: 'refused'; readonly reason: string };

/**
 * Finds a file of external data.
 * @param modelPath the model file
 * @param location as the tensor gives it; relative to the model's folder
 */
export const locateExternalFile = (modelPath: string, location: string): ExternalFile => {
  if (location === '') return refuse('is empty');
  if (isAbsolute(location) || win32.isAbsolute(location)) return refuse('is an absolute path');
  if (location.split(/[\\/]/).includes('..')) return refuse('climbs out of its folder with ".."');
  if (location.includes('\0')) return refuse('holds a zero character');
  const path = join(dirname(resolve(modelPath)), location);
  try {
    return inspect(modelPath, path);
  } catch (error) {
    const code = (error as NodeJS.ErrnoException).code;
    return code === 'ENOENT' || code === 'ENOTDIR' ? { kind: 'missing', path } : refuse(`cannot be opened (${code})`);
  }
};

const refuse = (reason: string): ExternalFile => ({ kind: 'refused', reason });

const inspect = (modelPath: string, path: string): ExternalFile => {
  const real = realpathSync(path);
  if (!modelFolders(modelPath).some((folder) => contains(folder, real))) {
    return refuse("is a link to a file outside the model's folder");
  }
  const stat = statSync(real);
  return stat.isFile() ? { kind: 'present', path: real, size: stat.size } : refuse('is not a regular file');
};

/** Both the folder of the path given and that of the file it links to: caches of model hubs link file by file. */
const modelFolders = (modelPath: string): readonly string[] => [
  realpathSync(dirname(modelPath)),
  dirname(realpathSync(modelPath)),
];

const contains = (folder: string, path: string): boolean => {
  const rest = relative(folder, path);
  return rest !== '..' && !rest.startsWith(`..${sep}`) && !isAbsolute(rest);
};
