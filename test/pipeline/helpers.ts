/** The sample model with other schedulers, and the pictures that PyTorch's diffusers makes of it. */
import { readFileSync } from 'node:fs';
import { cp, readFile, rm, symlink, writeFile } from 'node:fs/promises';
import { join, resolve } from 'node:path';
import { decode } from 'fast-png';
import { z } from 'zod';
import { parsePythonJson } from '#tandem/coordinator/pipeline/python-json.js';
import { makeDirectory } from '../support/directory.js';

export const MODEL = resolve('models/emoji-sd');
export const GOLDENS = resolve('test/fixtures/goldens');

const file = z.object({ file: z.string() });

const goldenSchema = z.object({
  scheduler: z.looseObject({ _class_name: z.string() }),
  prompt: z.string(),
  negative_prompt: z.string(),
  seed: z.number(),
  num_inference_steps: z.number(),
  guidance_scale: z.number(),
  height: z.number(),
  width: z.number(),
  timesteps: z.array(z.number()),
  initial_latents: file,
  final_latents: file,
  picture: file,
});
export type Golden = z.infer<typeof goldenSchema>;

export const readGolden = (name: string): Golden =>
  goldenSchema.parse(parsePythonJson(readFileSync(join(GOLDENS, `${name}.json`), 'utf8')));

export const readFloats = (name: string): Float32Array =>
  new Float32Array(new Uint8Array(readFileSync(join(GOLDENS, name))).buffer);

export const readPicture = (name: string): Uint8Array =>
  Uint8Array.from(decode(readFileSync(join(GOLDENS, name))).data);

/** Peak signal-to-noise ratio of two 8-bit pictures, in dB; infinite where they are equal. */
export const psnr = (left: Uint8Array, right: Uint8Array): number => {
  const total = left.reduce((sum, value, index) => sum + (value - (right[index] ?? Number.NaN)) ** 2, 0);
  return 10 * Math.log10(255 ** 2 / (total / left.length));
};

/** Largest difference, relative to the largest expected magnitude (at least 1). */
export const relativeError = (found: ArrayLike<number>, expected: ArrayLike<number>): number => {
  const pairs = Array.from(expected, (value, index) => [value, found[index] ?? Number.NaN] as const);
  const scale = Math.max(1, ...pairs.map(([value]) => Math.abs(value)));
  return found.length === expected.length ? Math.max(...pairs.map(([a, b]) => Math.abs(a - b))) / scale : Number.NaN;
};

/** A model directory of its own that a test may change; `remove` deletes it. */
export interface TemporaryModel {
  readonly directory: string;
  write(path: string, value: unknown): Promise<void>;
  remove(path?: string): Promise<void>;
}

/** JSON with infinities as Python writes them. */
const toPythonJson = (value: unknown): string =>
  JSON.stringify(value, (_, item) => (item === Number.NEGATIVE_INFINITY ? '(-inf)' : item)).replaceAll(
    '"(-inf)"',
    '-Infinity',
  );

/** The sample model's folders, with the configs copied and the large parts linked. */
export const temporaryModel = async (): Promise<TemporaryModel> => {
  const { path: directory } = makeDirectory();
  await cp(MODEL, directory, { recursive: true, filter: (path) => !path.endsWith('.onnx') });
  for (const part of ['text_encoder', 'unet', 'vae_decoder'])
    await symlink(join(MODEL, part, 'model.onnx'), join(directory, part, 'model.onnx'));
  return {
    directory,
    write: (path, value) => writeFile(join(directory, path), typeof value === 'string' ? value : toPythonJson(value)),
    remove: (path = '') => rm(join(directory, path), { recursive: true, force: true }),
  };
};

export const readJson = async (path: string): Promise<Record<string, unknown>> =>
  z.record(z.string(), z.unknown()).parse(JSON.parse(await readFile(path, 'utf8')));
