/** The tiny pipelines of `test/fixtures/pipelines`, unpacked, and what diffusers paints with them. */
import { readFileSync } from 'node:fs';
import { cp, readFile, rm, writeFile } from 'node:fs/promises';
import { basename, dirname, join, resolve } from 'node:path';
import { gunzipSync } from 'node:zlib';
import { decode } from 'fast-png';
import { z } from 'zod';
import { makeDirectory } from '../support/directory.js';

const FIXTURES = resolve('test/fixtures/pipelines');

export const FAMILY_NAMES = ['sdxl', 'sd3', 'flux', 'z-image'] as const;
export type FamilyName = (typeof FAMILY_NAMES)[number];

const goldensSchema = z.object({
  prompt: z.string(),
  seed: z.number(),
  height: z.number(),
  width: z.number(),
  pictures: z.record(
    z.string(),
    z.object({
      negative_prompt: z.string().optional(),
      guidance_scale: z.number(),
      num_inference_steps: z.number(),
    }),
  ),
  tokens: z.record(z.string(), z.array(z.object({ text: z.string(), ids: z.array(z.number()) }))),
});

const readGoldens = (family: FamilyName): z.infer<typeof goldensSchema> =>
  goldensSchema.parse(JSON.parse(readFileSync(join(FIXTURES, family, 'goldens.json'), 'utf8')));

/** What transformers makes of some texts, without padding. */
export interface TokenGolden {
  /** The tokenizer's folder, absolute. */
  readonly directory: string;
  readonly text: string;
  readonly ids: readonly number[];
}

export const tokenGoldens = (family: FamilyName): readonly TokenGolden[] =>
  Object.entries(readGoldens(family).tokens).flatMap(([folder, texts]) =>
    texts.map((golden) => ({ directory: join(FIXTURES, family, folder), ...golden })),
  );

/** One picture that diffusers painted, and what it was asked. */
export interface FamilyGolden {
  readonly prompt: string;
  readonly negativePrompt?: string;
  readonly seed: number;
  readonly guidanceScale: number;
  readonly numInferenceSteps: number;
  readonly width: number;
  readonly height: number;
  /** Unit noise that it began with: `[channels, height, width]`. */
  readonly initialLatents: Float32Array;
  /** RGB. */
  readonly picture: Uint8Array;
}

export const readFamilyGolden = (family: FamilyName, name: string): FamilyGolden => {
  const folder = join(FIXTURES, family);
  const { pictures, prompt, seed, width, height } = readGoldens(family);
  const asked = pictures[name];
  if (asked === undefined) throw new Error(`${family} has no golden called ${name}.`);
  return {
    prompt,
    seed,
    width,
    height,
    ...(asked.negative_prompt === undefined ? {} : { negativePrompt: asked.negative_prompt }),
    guidanceScale: asked.guidance_scale,
    numInferenceSteps: asked.num_inference_steps,
    initialLatents: new Float32Array(new Uint8Array(readFileSync(join(folder, 'initial.bin'))).buffer),
    picture: Uint8Array.from(decode(readFileSync(join(folder, `${name}.png`))).data),
  };
};

const PARTS = ['text_encoder', 'text_encoder_2', 'text_encoder_3', 'unet', 'transformer', 'vae_decoder'];

export interface FamilyModel {
  readonly directory: string;
  /** Changes the keys of a JSON file in it. */
  edit(path: string, changes: Readonly<Record<string, unknown>>): Promise<void>;
  /** Copies a folder of it, or the one of the same name in another family's fixture. */
  copy(from: string, to: string): Promise<void>;
  copyFrom(family: FamilyName, folder: string): Promise<void>;
  remove(path?: string): Promise<void>;
}

/** A model directory of its own that a test may change; `remove` deletes it. */
export const familyModel = async (family: FamilyName): Promise<FamilyModel> => {
  const { path: directory } = makeDirectory();
  await cp(join(FIXTURES, family), directory, {
    recursive: true,
    filter: (path) => !/\.(bin|png)$/.test(path) && !(PARTS.includes(basename(dirname(path))) && path.endsWith('.gz')),
  });
  for (const part of PARTS) {
    const packed = await readFile(join(FIXTURES, family, part, 'model.onnx.gz')).catch(() => undefined);
    if (packed !== undefined) await writeFile(join(directory, part, 'model.onnx'), gunzipSync(packed));
  }
  return {
    directory,
    async edit(path, changes) {
      const file = join(directory, path);
      const value = z.record(z.string(), z.unknown()).parse(JSON.parse(await readFile(file, 'utf8')));
      await writeFile(file, JSON.stringify({ ...value, ...changes }));
    },
    copy: (from, to) => cp(join(directory, from), join(directory, to), { recursive: true }),
    copyFrom: (other, folder) => cp(join(FIXTURES, other, folder), join(directory, folder), { recursive: true }),
    remove: (path = '') => rm(join(directory, path), { recursive: true, force: true }),
  };
};
