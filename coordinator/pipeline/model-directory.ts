/**
 * Reads a model directory in the diffusers layout with ONNX parts, as Optimum exports it: which files there are, and what
 * their configs say. Nothing large is read here. Every problem is reported, not the first.
 */
import { access, readFile } from 'node:fs/promises';
import { join, resolve } from 'node:path';
import { z } from 'zod';
import { TandemError } from '../../partition/errors.js';
import { modelDirectoryError } from './errors.js';
import { parsePythonJson } from './python-json.js';
import { chooseScheduler, type SchedulerChoice, type SchedulerName } from './schedulers/registry.js';

/** A model that can be run: paths are absolute. */
export interface ModelDirectory {
  readonly directory: string;
  readonly tokenizer: string;
  readonly textEncoder: string;
  readonly denoiser: string;
  readonly vaeDecoder: string;
  readonly scheduler: SchedulerChoice;
  readonly latents: {
    readonly channels: number;
    /** Latents are `(latents - shift) * scale` of what the VAE encodes. */
    readonly scalingFactor: number;
    readonly shiftFactor: number;
    /** Pixels per latent along one side. */
    readonly downscale: number;
  };
  /** Tokens of a prompt, padding included. */
  readonly sequenceLength: number;
  /** Pixels of the images that the model was trained on; absent where its config does not say. */
  readonly defaultSize?: { readonly width: number; readonly height: number };
  /** Width of the guidance embedding (`timestep_cond`) of distilled models such as LCM; absent where there is none. */
  readonly timeCondProjDim?: number;
}

const part = z.union([z.tuple([z.string().nullable(), z.string().nullable()]), z.null()]);

const modelIndex = z.looseObject({
  _class_name: z.string(),
  unet: part.optional(),
  transformer: part.optional(),
  text_encoder_2: part.optional(),
  text_encoder_3: part.optional(),
  image_encoder: part.optional(),
});

/** diffusers' defaults of `AutoencoderKL`: the first Stable Diffusion models do not state their scaling factor. */
const vaeConfig = z.looseObject({
  scaling_factor: z.number().positive().default(0.18215),
  shift_factor: z.number().nullish(),
  latent_channels: z.number().int().positive().default(4),
  block_out_channels: z.array(z.number()).min(1).default([128, 256, 512, 512]),
});

const tokenizerLength = z.looseObject({ model_max_length: z.number().min(2).default(77) });

const denoiserConfig = z.looseObject({
  sample_size: z.union([z.number(), z.tuple([z.number(), z.number()])]).nullish(),
  in_channels: z.number().int().positive().optional(),
  time_cond_proj_dim: z.number().int().positive().nullish(),
});

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

/** Parts that some pipelines have and this one cannot run yet. */
const UNSUPPORTED_PARTS = ['text_encoder_2', 'text_encoder_3', 'image_encoder'] as const;

const checkParts = (index: ModelIndex, problems: string[]): void => {
  for (const name of UNSUPPORTED_PARTS)
    if (isPresent(index[name]))
      problems.push(
        `model_index.json: ${index._class_name} has a "${name}", which is not supported yet; models with one CLIP text encoder are.`,
      );
};

const checkTokenizer = async (directory: string, reader: Reader): Promise<void> => {
  if (await canRead(join(directory, 'tokenizer/tokenizer.json'))) return;
  const parts = ['tokenizer/vocab.json', 'tokenizer/merges.txt'];
  const found = await Promise.all(parts.map((path) => canRead(join(directory, path))));
  const missing = parts.filter((_, position) => !found[position]);
  if (missing.length > 0)
    reader.problems.push(
      `tokenizer/tokenizer.json is missing, and so ${missing.length > 1 ? 'are' : 'is'} ${missing.join(' and ')}, which would do as well.`,
    );
};

/** Optimum writes the VAE's config beside each half; a plain diffusers directory has one folder for both. */
const vaeConfigPath = async (directory: string): Promise<string> => {
  const candidates = ['vae_decoder/config.json', 'vae/config.json'];
  for (const path of candidates) if (await canRead(join(directory, path))) return path;
  return 'vae_decoder/config.json';
};

const denoiserFolder = (index: ModelIndex | undefined): 'unet' | 'transformer' =>
  index !== undefined && isPresent(index.transformer) && !isPresent(index.unet) ? 'transformer' : 'unet';

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
const defaultSize = (config: z.infer<typeof denoiserConfig>, downscale: number): ModelDirectory['defaultSize'] => {
  if (config.sample_size == null) return undefined;
  const [height, width] =
    typeof config.sample_size === 'number' ? [config.sample_size, config.sample_size] : config.sample_size;
  return { width: width * downscale, height: height * downscale };
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
  if (index !== undefined) checkParts(index, reader.problems);
  await checkTokenizer(root, reader);
  const tokenizer = await reader.json('tokenizer/tokenizer_config.json', tokenizerLength);
  const folder = denoiserFolder(index);
  for (const path of ['text_encoder/model.onnx', `${folder}/model.onnx`, 'vae_decoder/model.onnx'])
    await reader.exists(path);
  const denoiser = await reader.json(`${folder}/config.json`, denoiserConfig);
  const vae = await reader.json(await vaeConfigPath(root), vaeConfig);
  const choice = await readScheduler(reader, scheduler);
  if (
    reader.problems.length > 0 ||
    tokenizer === undefined ||
    denoiser === undefined ||
    vae === undefined ||
    choice === undefined
  )
    throw modelDirectoryError(root, reader.problems);

  const downscale = 2 ** (vae.block_out_channels.length - 1);
  const size = defaultSize(denoiser, downscale);
  return {
    directory: root,
    tokenizer: join(root, 'tokenizer'),
    textEncoder: join(root, 'text_encoder/model.onnx'),
    denoiser: join(root, folder, 'model.onnx'),
    vaeDecoder: join(root, 'vae_decoder/model.onnx'),
    scheduler: choice,
    latents: {
      channels: denoiser.in_channels ?? vae.latent_channels,
      scalingFactor: vae.scaling_factor,
      shiftFactor: vae.shift_factor ?? 0,
      downscale,
    },
    sequenceLength: tokenizer.model_max_length,
    ...(size === undefined ? {} : { defaultSize: size }),
    ...(denoiser.time_cond_proj_dim == null ? {} : { timeCondProjDim: denoiser.time_cond_proj_dim }),
  };
};
