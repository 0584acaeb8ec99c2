/**
 * Prompt to picture: encode the prompt, run the denoising loop, decode the latents. The denoiser in the loop may be one
 * session or a cluster.
 */
import type { Denoiser } from '../denoiser.js';
import { condition } from './conditioning.js';
import { bindDenoiser, type DenoiserBinding } from './denoiser-binding.js';
import { denoise, loopWarnings, timed } from './denoising-loop.js';
import { modelInputsError, requestError } from './errors.js';
import type { EncodeContext, EncoderFolder } from './families/family.js';
import { checkAborted, type GeneratedImage, type ImageRequest } from './image-request.js';
import { type KnownWords, readKnownWords } from './known-words.js';
import { type ModelDirectory, readModelDirectory } from './model-directory.js';
import { latentsFor, type NetworkName, type OutsideNetwork, openSessions, type Sessions } from './networks.js';
import { createRandomStream } from './random.js';
import type { SchedulerName } from './schedulers/registry.js';
import type { Scheduler } from './schedulers/scheduler.js';
import { createSessionThread, type SessionThreadOptions } from './session-thread.js';
import { openTextEncoder, type TextEncoder } from './text-encoder.js';
import { openTokenizer } from './tokenizer.js';
import { openVaeDecoder, type RgbImage, type VaeDecoder } from './vae-decoder.js';

export interface PipelineOptions extends SessionThreadOptions {
  /** Model directory in the diffusers layout with ONNX parts. */
  readonly directory: string;
  /** Runs the network; opened for the size of the images. The caller closes it. Everything else is loaded while it is awaited. */
  readonly denoiser: Denoiser | Promise<Denoiser>;
  /** The other networks that run elsewhere too; the rest are loaded into this process. */
  readonly networks?: ReadonlyMap<NetworkName, OutsideNetwork>;
  /** Pixels of the images; may be left out where the denoiser's inputs say it. */
  readonly size?: { readonly width: number; readonly height: number };
  /** In place of the scheduler that the model directory names. */
  readonly scheduler?: SchedulerName;
}

/** A loaded model; images are made one after the other. */
export interface Pipeline {
  readonly model: ModelDirectory;
  readonly scheduler: SchedulerName;
  /** Pixels of the images, for which the denoiser was opened. */
  readonly size: { readonly width: number; readonly height: number };
  /** Calls of the denoiser that an image of so many steps takes: some schedulers make two a step. */
  modelCalls(numInferenceSteps: number): number;
  /**
   * @throws TandemError `REQUEST_INVALID` for a request that cannot be met, `REQUEST_ABORTED` when the signal fires, and
   * whatever the denoiser throws when a step fails
   */
  generateImage(request: ImageRequest): Promise<GeneratedImage>;
  /**
   * The picture that latents stand for, also in the middle of an image: a preview.
   * @param latents `[channels * height * width]`, as a step left them
   * @throws TandemError `SESSION_FAILED` or `SESSION_TIMEOUT`
   */
  decode(latents: Float32Array): Promise<RgbImage>;
  /**
   * The same model for pictures of another size: text encoders and VAE are shared, so that closing it does nothing.
   * @param denoiser opened for that size
   * @throws TandemError `MODEL_INPUTS`
   */
  resized(denoiser: Denoiser | Promise<Denoiser>, size: Pipeline['size']): Promise<Pipeline>;
  /** Frees the text encoder and the VAE; not the denoiser. */
  close(): Promise<void>;
}

interface Parts {
  readonly model: ModelDirectory;
  readonly known: KnownWords | undefined;
  readonly binding: DenoiserBinding;
  readonly context: EncodeContext;
  readonly vaeDecoder: VaeDecoder;
}

const sizeOf = ({ binding, model }: Pick<Parts, 'binding' | 'model'>): Pipeline['size'] => {
  const [, height, width] = binding.latentShape;
  const { downscale } = model.latents;
  return { width: width * downscale, height: height * downscale };
};

const checkRequest = (request: ImageRequest, { binding, model }: Parts): void => {
  const [channels, height, width] = binding.latentShape;
  const pixels = sizeOf({ binding, model });
  const problems: string[] = [];
  for (const side of ['width', 'height'] as const) {
    const asked = request[side] ?? pixels[side];
    if (asked !== pixels[side])
      problems.push(
        `The denoiser was opened for a ${side} of ${pixels[side]} pixels, found ${asked}; open it for that size.`,
      );
  }
  if (request.negativePrompt && model.family.guidance === undefined)
    problems.push(
      `${model.family.name} models have no negative prompt, as they make one pass only; leave it out and say in the prompt what is wanted.`,
    );
  if (!Number.isFinite(request.guidanceScale))
    problems.push(`Expected guidance_scale to be a number, found ${request.guidanceScale}.`);
  const latents = request.initialLatents?.length ?? channels * height * width;
  if (latents !== channels * height * width)
    problems.push(
      `Expected ${channels * height * width} initial latents ([${channels}, ${height}, ${width}]), found ${latents}.`,
    );
  if (problems.length > 0) throw requestError(problems.join(' '), problems);
};

const createScheduler = (
  { numInferenceSteps }: Pick<ImageRequest, 'numInferenceSteps'>,
  { model, binding }: Parts,
): Scheduler => {
  const [, height, width] = binding.latentShape;
  const imageTokens = Math.floor(height / 2) * Math.floor(width / 2);
  return model.scheduler.create(model.family.schedule({ numInferenceSteps, imageTokens }));
};

const hints = ({ known }: Parts, prompt: string): readonly string[] => {
  const hint = known?.hint(prompt);
  return hint === undefined ? [] : [hint];
};

const generate = async (parts: Parts, request: ImageRequest): Promise<GeneratedImage> => {
  checkRequest(request, parts);
  const { model, binding } = parts;
  const random = createRandomStream(request.seed);
  const scheduler = createScheduler(request, parts);
  checkAborted(request.signal, 'the start');
  const [conditioning, text_encode_ms] = await timed(() =>
    condition({ image: request, ...sizeOf(parts) }, model.family, binding, parts.context),
  );
  const [loop, denoise_ms] = await timed(() => denoise(request, binding, scheduler, conditioning, random));
  checkAborted(request.signal, 'the decoding of the image');
  const [image, vae_decode_ms] = await timed(() => parts.vaeDecoder.decode(loop.latents, binding.latentShape));
  return {
    latents: { data: loop.latents, shape: binding.latentShape },
    image,
    timings: { text_encode_ms, denoise_ms, step_ms: loop.stepTimes, vae_decode_ms },
    warnings: [
      ...hints(parts, request.prompt),
      ...conditioning.warnings,
      ...loopWarnings(scheduler, binding, conditioning),
    ],
  };
};

/** A guidance input that the config promises but the export dropped would silently ignore the guidance scale. */
const checkGuidanceInput = (model: ModelDirectory, binding: DenoiserBinding): void => {
  const size = binding.input('guidanceEmbedding')?.shape[1];
  const problems: string[] = [];
  if (model.timeCondProjDim !== undefined && size !== model.timeCondProjDim)
    problems.push(
      `Its config says time_cond_proj_dim ${model.timeCondProjDim}, but its input "timestep_cond" is ${size ?? 'missing'}; export the model again.`,
    );
  if (model.guidanceEmbeds && binding.input('guidance') === undefined)
    problems.push('Its config says guidance_embeds, but its input "guidance" is missing; export the model again.');
  if (problems.length > 0) throw modelInputsError('denoiser', problems);
};

const checkChannels = (model: ModelDirectory, binding: DenoiserBinding): void => {
  const [channels] = binding.latentShape;
  if (channels === model.latents.channels) return;
  throw modelInputsError('denoiser', [
    `It was opened for ${channels} latent channels, but its config says ${model.latents.channels}; it belongs to another model.`,
  ]);
};

const openEncoders = async ({ encoders }: ModelDirectory, sessions: Sessions): Promise<EncodeContext['encoders']> => {
  const opened = new Map<EncoderFolder, TextEncoder>();
  for (const { part, tokenizer } of encoders) {
    const name = part.folder;
    const words = await openTokenizer(tokenizer, part.tokens);
    opened.set(name, openTextEncoder(await sessions.of(name), { name, outputs: part.outputs }, words));
  }
  return opened;
};

const openBinding = async (
  model: ModelDirectory,
  denoiser: Denoiser | Promise<Denoiser>,
  size: Pipeline['size'] | undefined,
): Promise<DenoiserBinding> => {
  const binding = bindDenoiser(await denoiser, model.family, size && latentsFor(model, size));
  checkGuidanceInput(model, binding);
  checkChannels(model, binding);
  return binding;
};

const pipelineOf = (parts: Parts, close: () => Promise<void>): Pipeline => ({
  model: parts.model,
  scheduler: parts.model.scheduler.name,
  size: sizeOf(parts),
  modelCalls: (numInferenceSteps) => createScheduler({ numInferenceSteps }, parts).timesteps.length,
  generateImage: (request) => generate(parts, request),
  decode: (latents) => parts.vaeDecoder.decode(latents, parts.binding.latentShape),
  resized: async (denoiser, size) => {
    const binding = await openBinding(parts.model, denoiser, size);
    const context = { ...parts.context, embeddingShape: binding.embeddingShape };
    return pipelineOf({ ...parts, binding, context }, async () => undefined);
  },
  close,
});

/**
 * Loads what is needed around the denoiser.
 * @throws TandemError `MODEL_DIRECTORY`, `TOKENIZER_INVALID`, `MODEL_INPUTS` or `SESSION_FAILED`
 */
export const createPipeline = async (options: PipelineOptions): Promise<Pipeline> => {
  const model = await readModelDirectory(options.directory, options.scheduler);
  const known = await readKnownWords(options.directory);
  const thread = createSessionThread(options);
  const sessions = openSessions(thread, model, options.networks);
  try {
    const encoders = await openEncoders(model, sessions);
    const vaeDecoder = openVaeDecoder(await sessions.of('vae_decoder'), model.latents);
    const binding = await openBinding(model, options.denoiser, options.size);
    const { embeddingShape } = binding;
    const context = { encoders, embeddingShape, zeroUnconditional: model.zeroUnconditional };
    return pipelineOf({ model, known, binding, context, vaeDecoder }, () => thread.close());
  } catch (error) {
    await sessions.settled();
    await thread.close();
    throw error;
  }
};
