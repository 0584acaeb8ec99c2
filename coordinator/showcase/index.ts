/**
 * A model of real size that needs no download: Stable Diffusion 1.5's denoiser, its graph as diffusers and PyTorch export it, with
 * weights from a seed. Its pictures mean nothing; its steps, its memory and its exchanges are those of the real one.
 */
import { randomUUID } from 'node:crypto';
import { mkdir, rename, rm, stat, statfs } from 'node:fs/promises';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { TandemError } from '../../common/errors.js';
import { formatBytes } from '../config/bytes.js';
import type { Hooks } from '../hooks.js';
import type { Dims } from '../shards/dims.js';
import { fillSkeleton, readSkeletonWeights, WEIGHTS_FILE } from './skeleton.js';

/** Without an ending. */
export const SHOWCASE_SKELETON = fileURLToPath(new URL('../../../models/showcase/sd15', import.meta.url));

/** A step of a guided picture of 512x512: guidance's two prompts as one batch. */
export const SHOWCASE_DIMS: Dims = { batch_size: 2, height: 64, width: 64, sequence_length: 77 };

/** The model itself, and its shards for one device and for two. */
const COPIES = 3.1;

const sizeOf = async (path: string): Promise<number | undefined> => (await stat(path).catch(() => undefined))?.size;

const checkRoom = async (root: string, bytes: number): Promise<void> => {
  const { blocks, bavail, bsize } = await statfs(root);
  const free = bavail * bsize;
  if (blocks === 0 || free >= bytes) return;
  throw new TandemError(
    'WRITE_DISK_FULL',
    `The showcase needs ${formatBytes(bytes)} in ${root}, where ${formatBytes(free)} are free; free some space, or give another directory by --shards.`,
  );
};

/**
 * Makes the showcase's model, once.
 * @param root where it is kept; made where it does not exist
 * @returns path of its `.onnx` file
 * @throws TandemError `WRITE_DISK_FULL`; the signal's reason when it aborts
 */
export const prepareShowcase = async (root: string, hooks: Hooks = {}): Promise<string> => {
  const directory = join(root, 'showcase-sd15');
  const weights = await readSkeletonWeights(SHOWCASE_SKELETON);
  const bytes = Math.max(...weights.map(({ offset, length }) => offset + length));
  const model = join(directory, 'model.onnx');
  if ((await sizeOf(join(directory, WEIGHTS_FILE))) === bytes && (await sizeOf(model)) !== undefined) return model;
  await mkdir(root, { recursive: true });
  await checkRoom(root, COPIES * bytes);
  hooks.onNotice?.(`Making Stable Diffusion 1.5's denoiser with weights from a seed in ${directory}, once.`);
  const partial = `${directory}.${randomUUID()}`;
  try {
    await fillSkeleton(SHOWCASE_SKELETON, partial, 0, hooks);
    await rm(directory, { recursive: true, force: true });
    await rename(partial, directory);
  } finally {
    await rm(partial, { recursive: true, force: true });
  }
  return model;
};
