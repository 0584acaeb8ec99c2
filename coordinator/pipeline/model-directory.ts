/**
 * Reads a model directory in the diffusers layout with ONNX parts, as Optimum exports it: which files there are, and what
 * their configs say. Nothing large is read here. Every problem is reported, not the first.
 */
import { access, readFile } from 'node:fs/promises';
import { join, resolve } from 'node:path';
import { z } from 'zod';
import { TandemError } from '../../common/errors.js';
import { modelDirectoryError } from './errors.js';
import { ENCODER_FOLDERS, type EncoderPart, type Family, familyOf, supportedClasses } from './families/index.js';
import { parsePythonJson } from './python-json.js';
import { chooseScheduler, type SchedulerChoice } from './schedulers/choose-scheduler.js';
import type { SchedulerName } from './schedulers/registry.js';
import { modelMaxLength } from './tokenizer-local.js';

/** A text encoder that a model has; paths are absolute. */
export interface EncoderFiles {
  readonly part: EncoderPart;
  readonly model: string;
  readonly tokenizer: string;
  /** Tokens that its tokenizer names. */
  readonly ownLength: number;
}

/** A model that can be run: paths are absolute. */
export interface ModelDirectory {
  readonly directory: string;
  readonly family: Family;
  readonly encoders: readonly EncoderFiles[];
  readonly denoiser: string;
  readonly vaeDecoder: string;
  readonly scheduler: SchedulerChoice;
  readonly latents: {
    readonly channels: number;
    /** Latents are `(latents - shift) * scale` of what the VAE encodes. */
    readonly scalingFactor: number;
    readonly shiftFactor: number;
    /** Per channel, for models that normalise each by itself. */
    readonly mean?: readonly number[];
    readonly std?: readonly number[];
    /** Pixels per latent along one side. */
    readonly downscale: number;
  };
  /** Pixels of which a picture's sides must be multiples. */
  readonly sizeMultiple: number;
  /** Tokens of a prompt's embeddings, padding included. */
  readonly sequenceLength: number;
  /** Pixels of the images that the model was trained on; absent where neither its config nor its family says. */
  readonly defaultSize?: { readonly width: number; readonly height: number };
  /** Width of the guidance embedding (`timestep_cond`) of distilled models such as LCM; absent where there is none. */
  readonly timeCondProjDim?: number;
  /** Whether the denoiser was distilled with the guidance scale as an input (`guidance`). */
  readonly guidanceEmbeds: boolean;
  /** Whether the unconditional embeddings are zeros where there is no negative prompt. */
  readonly zeroUnconditional: boolean;
}

const part = z.union([z.tuple([z.string().nullable(), z.string().nullable()]), z.null()]);

const modelIndex = z.looseObject({
  _class_name: z.string(),
  text_encoder: part.optional(),
  text_encoder_2: part.optional(),
  text_encoder_3: part.optional(),
  image_encoder: part.optional(),
  force_zeros_for_empty_prompt: z.boolean().optional(),
});

/** Numbers that no model comes near: what is beyond is damage, and would be made into arrays. */
const MAX_CHANNELS = 65_536;
const side = z.number().int().positive().max(65_536);

/** diffusers' defaults of `AutoencoderKL`: the first Stable Diffusion models do not state their scaling factor. */
const vaeConfig = z.looseObject({
  scaling_factor: z.number().positive().default(0.18215),
  shift_factor: z.number().nullish(),
  latent_channels: z.number().int().positive().max(MAX_CHANNELS).default(4),
  // Each but the first halves the picture: 2^12 is the largest that a picture has.
  block_out_channels: z.array(z.number()).min(1).max(13).default([128, 256, 512, 512]),
  latents_mean: z.array(z.number()).nullish(),
  latents_std: z.array(z.number()).nullish(),
});

const tokenizerLength = z.looseObject({ model_max_length: modelMaxLength });

const denoiserConfig = z.looseObject({
  sample_size: z.union([side, z.tuple([side, side])]).nullish(),
  in_channels: z.number().int().positive().max(MAX_CHANNELS).optional(),
  time_cond_proj_dim: z.number().int().positive().max(MAX_CHANNELS).nullish(),
  guidance_embeds: z.boolean().default(false),
});
type DenoiserConfig = z.infer<typeof denoiserConfig>;

/** Collects problems on the way; a reader that found one returns undefined. */
interface Reader {
  readonly problems: string[];
  json<T>(path: string, schema: z.ZodType<T>): Promise<T | undefined>;
  exists(path: string): Promise<boolean>;
}

const canRead = async (path: string): Promise<boolean> =>
  access(path).then(
    () => true,
    () => false,
  );

const createReader = (directory: string): Reader => {
  const problems: string[] = [];
  return {
    problems,
    async exists(path) {
      const found = await canRead(join(directory, path));
      if (!found) problems.push(`${path} is missing.`);
      return found;
    },
    async json(path, schema) {
      if (!(await this.exists(path))) return undefined;
      try {
        const parsed = schema.safeParse(parsePythonJson(await readFile(join(directory, path), 'utf8')));
        if (parsed.success) return parsed.data;
        problems.push(
          ...parsed.error.issues.map((issue) => `${path}: ${issue.path.join('.') || 'the file'}: ${issue.message}.`),
        );
      } catch (error) {
        problems.push(`${path} is not JSON: ${(error as Error).message}.`);
      }
      return undefined;
    },
  };
};

type ModelIndex = z.infer<typeof modelIndex>;

const isPresent = (value: z.infer<typeof part> | undefined): boolean => value?.[1] != null;

/** The family that the index names; undefined with a problem where there is none. */
const readFamily = (index: ModelIndex, problems: string[]): Family | undefined => {
  const family = familyOf(index._class_name);
  if (family === undefined)
    problems.push(
      `model_index.json: ${index._class_name} is not a pipeline that can be run; supported are ${supportedClasses()}.`,
    );
  return family;
};

/** The text encoders that a model has, where they and no others are its family's. */
const encodersOf = (index: ModelIndex, family: Family, problems: string[]): readonly EncoderPart[] => {
  const known: readonly string[] = family.encoders.map(({ folder }) => folder);
  for (const name of [...ENCODER_FOLDERS, 'image_encoder'] as const)
    if (isPresent(index[name]) && !known.includes(name))
      problems.push(`model_index.json: it has a "${name}", which ${family.name} models do not have.`);
  // Old indices leave out what every model of the class has.
  return family.encoders.filter(({ folder, optional }) => !optional || isPresent(index[folder]));
};

const checkTokenizer = async (directory: string, folder: string, reader: Reader): Promise<void> => {
  if (await canRead(join(directory, folder, 'tokenizer.json'))) return;
  const parts = [`${folder}/vocab.json`, `${folder}/merges.txt`];
  const found = await Promise.all(parts.map((path) => canRead(join(directory, path))));
  const missing = parts.filter((_, position) => !found[position]);
  if (missing.length === 0) return;
  reader.problems.push(
    (await canRead(join(directory, folder, 'spiece.model')))
      ? `${folder}/tokenizer.json is missing, and ${folder}/spiece.model cannot be read in its place: load the folder with transformers' AutoTokenizer and save_pretrained it, which writes tokenizer.json.`
      : `${folder}/tokenizer.json is missing, and so ${missing.length > 1 ? 'are' : 'is'} ${missing.join(' and ')}, which would do as well.`,
  );
};

/** Optimum writes the VAE's config beside each half; a plain diffusers directory has one folder for both. */
const vaeConfigPath = async (directory: string): Promise<string> => {
  const candidates = ['vae_decoder/config.json', 'vae/config.json'];
  for (const path of candidates) if (await canRead(join(directory, path))) return path;
  return 'vae_decoder/config.json';
};

const readScheduler = async (
  reader: Reader,
  override: SchedulerName | undefined,
): Promise<SchedulerChoice | undefined> => {
  const config = await reader.json('scheduler/scheduler_config.json', z.looseObject({}));
  if (config === undefined) return undefined;
  try {
    return chooseScheduler(config, override);
  } catch (error) {
    if (!(error instanceof TandemError)) throw error;
    reader.problems.push(`scheduler/scheduler_config.json: ${error.message}`);
    return undefined;
  }
};

/** Pixels of `sample_size`, which is `[height, width]` or one number for both, in latents. */
const defaultSize = (config: DenoiserConfig, downscale: number, family: Family): ModelDirectory['defaultSize'] => {
  const { pixels } = family.defaults;
  if (config.sample_size == null) return pixels === undefined ? undefined : { width: pixels, height: pixels };
  const [height, width] =
    typeof config.sample_size === 'number' ? [config.sample_size, config.sample_size] : config.sample_size;
  return { width: width * downscale, height: height * downscale };
};

const PATCH_CHANNELS = { planes: 1, patches: 4 } as const;

/** What the VAE's config and the denoiser's say of the latents between them. */
const latentsOf = (
  vae: z.infer<typeof vaeConfig>,
  denoiser: DenoiserConfig,
  family: Family,
): ModelDirectory['latents'] => ({
  channels:
    denoiser.in_channels === undefined ? vae.latent_channels : denoiser.in_channels / PATCH_CHANNELS[family.layout],
  scalingFactor: vae.scaling_factor,
  shiftFactor: vae.shift_factor ?? 0,
  ...(vae.latents_mean && vae.latents_std ? { mean: vae.latents_mean, std: vae.latents_std } : {}),
  downscale: 2 ** (vae.block_out_channels.length - 1),
});

/** Checks the text encoders' files. Returns the lengths that their tokenizers name. */
const readEncoders = async (
  root: string,
  parts: readonly EncoderPart[],
  reader: Reader,
): Promise<readonly (number | undefined)[]> => {
  for (const { tokenizer } of parts) await checkTokenizer(root, tokenizer, reader);
  const lengths: (number | undefined)[] = [];
  for (const { tokenizer } of parts)
    lengths.push((await reader.json(`${tokenizer}/tokenizer_config.json`, tokenizerLength))?.model_max_length);
  for (const { folder } of parts) await reader.exists(`${folder}/model.onnx`);
  return lengths;
};

/**
 * Reads and checks a model directory.
 * @param directory in the diffusers layout with ONNX parts
 * @param scheduler runs the model by this scheduler in place of the one that scheduler_config.json names
 * @throws TandemError `MODEL_DIRECTORY` with everything that is missing or malformed in `problems`
 */
export const readModelDirectory = async (directory: string, scheduler?: SchedulerName): Promise<ModelDirectory> => {
  const root = resolve(directory);
  if (!(await canRead(root))) throw modelDirectoryError(root, ['the directory does not exist.']);
  const reader = createReader(root);
  const index = await reader.json('model_index.json', modelIndex);
  const family = index === undefined ? undefined : readFamily(index, reader.problems);
  // Which other files there must be is the family's to say.
  if (index === undefined || family === undefined) throw modelDirectoryError(root, reader.problems);
  const parts = encodersOf(index, family, reader.problems);
  const lengths = await readEncoders(root, parts, reader);
  const [tokenizerLimit] = lengths;
  const folder = family.denoiser;
  for (const path of [`${folder}/model.onnx`, 'vae_decoder/model.onnx']) await reader.exists(path);
  const denoiser = await reader.json(`${folder}/config.json`, denoiserConfig);
  const vae = await reader.json(await vaeConfigPath(root), vaeConfig);
  const choice = await readScheduler(reader, scheduler);
  if (
    reader.problems.length > 0 ||
    tokenizerLimit === undefined ||
    denoiser === undefined ||
    vae === undefined ||
    choice === undefined
  )
    throw modelDirectoryError(root, reader.problems);

  const latents = latentsOf(vae, denoiser, family);
  const size = defaultSize(denoiser, latents.downscale, family);
  return {
    directory: root,
    family,
    encoders: parts.map((part, index) => ({
      part,
      model: join(root, part.folder, 'model.onnx'),
      tokenizer: join(root, part.tokenizer),
      ownLength: lengths[index] ?? tokenizerLimit,
    })),
    denoiser: join(root, folder, 'model.onnx'),
    vaeDecoder: join(root, 'vae_decoder/model.onnx'),
    scheduler: choice,
    latents,
    sizeMultiple: latents.downscale * family.patch,
    sequenceLength: family.sequenceLength(tokenizerLimit),
    ...(size === undefined ? {} : { defaultSize: size }),
    ...(denoiser.time_cond_proj_dim == null ? {} : { timeCondProjDim: denoiser.time_cond_proj_dim }),
    guidanceEmbeds: denoiser.guidance_embeds,
    zeroUnconditional: index.force_zeros_for_empty_prompt ?? family.zeroUnconditional ?? false,
  };
};
