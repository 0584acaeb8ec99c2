/** The middle of an image: prompts to conditioning, then latents through the network step by step. */
import type { DenoiserBinding } from './denoiser-binding.js';
import { modelInputsError } from './errors.js';
import { applyGuidance, guidanceEmbedding } from './guidance.js';
import { checkAborted, type ImageRequest } from './image-request.js';
import type { RandomStream } from './random.js';
import type { Scheduler } from './schedulers/scheduler.js';
import type { EncodedPrompt, TextEncoder } from './text-encoder.js';

/** The prompts' embeddings in the order in which they are fed, with what guidance does with the predictions. */
export interface Conditioning {
  readonly embeddings: readonly Float32Array[];
  readonly guided: boolean;
  readonly guidanceEmbedding?: Float32Array;
  readonly warnings: readonly string[];
}

/** A result and how long it took, in ms. */
export const timed = async <T>(work: () => Promise<T>): Promise<[T, number]> => {
  const start = performance.now();
  return [await work(), performance.now() - start];
};

const checkEmbeddings = ({ shape }: EncodedPrompt, binding: DenoiserBinding): void => {
  if (shape.join() === binding.embeddingShape.join()) return;
  throw modelInputsError('denoiser', [
    `It was opened for prompt embeddings of [${binding.embeddingShape.join(', ')}], but the text encoder gives [${shape.join(', ')}]; open it for that sequence length.`,
  ]);
};

const truncationWarning = (name: string, encoded: EncodedPrompt): string[] =>
  encoded.truncatedText === undefined
    ? []
    : [`The ${name} is too long for the text encoder; this part of it was left out: "${encoded.truncatedText}".`];

/** Encodes the prompts; the unconditional one comes first, and only where guidance needs it. */
export const condition = async (
  request: ImageRequest,
  binding: DenoiserBinding,
  textEncoder: TextEncoder,
): Promise<Conditioning> => {
  const embedded = binding.guidanceEmbeddingSize;
  const guided = request.guidanceScale > 1 && embedded === undefined;
  const negative = guided ? await textEncoder.encode(request.negativePrompt ?? '') : undefined;
  const positive = await textEncoder.encode(request.prompt);
  checkEmbeddings(positive, binding);
  return {
    embeddings: negative === undefined ? [positive.embeddings] : [negative.embeddings, positive.embeddings],
    guided,
    ...(embedded === undefined ? {} : { guidanceEmbedding: guidanceEmbedding(request.guidanceScale, embedded) }),
    warnings: [
      ...truncationWarning('prompt', positive),
      ...(negative === undefined ? [] : truncationWarning('negative prompt', negative)),
      ...(!guided && request.negativePrompt
        ? ['The negative prompt has no effect without classifier-free guidance.']
        : []),
    ],
  };
};

/** Warnings about a schedule that the denoiser cannot follow to the letter. */
export const loopWarnings = (scheduler: Scheduler, binding: DenoiserBinding, conditioning: Conditioning): string[] => [
  ...(binding.wholeTimesteps && scheduler.timesteps.some((timestep) => !Number.isInteger(timestep))
    ? [
        'The scheduler makes fractional timesteps, but the model takes whole ones: they were rounded. Use timestep_spacing "leading" or "trailing", or another scheduler, to avoid it.',
      ]
    : []),
  ...(binding.batch > conditioning.embeddings.length
    ? [
        `The denoiser was opened for a batch of ${binding.batch}, of which this image uses ${conditioning.embeddings.length}: it could run in half the time with a batch of 1.`,
      ]
    : []),
];

const predict = async (
  binding: DenoiserBinding,
  sample: Float32Array,
  timestep: number,
  conditioning: Conditioning,
  scale: number,
): Promise<Float32Array> => {
  const [first, second] = await binding.predict({
    sample,
    timestep,
    embeddings: conditioning.embeddings,
    ...(conditioning.guidanceEmbedding === undefined ? {} : { guidanceEmbedding: conditioning.guidanceEmbedding }),
  });
  if (first === undefined) throw modelInputsError('denoiser', ['It returned no prediction.']);
  return conditioning.guided && second !== undefined ? applyGuidance(first, second, scale) : first;
};

export interface LoopResult {
  /** `[channels * height * width]`. */
  readonly latents: Float32Array;
  /** ms. */
  readonly stepTimes: readonly number[];
}

/**
 * The denoising loop. A step that fails leaves the latents of the step before; nothing is retried here.
 * @throws TandemError `REQUEST_ABORTED`, or whatever the denoiser throws
 */
export const denoise = async (
  request: ImageRequest,
  binding: DenoiserBinding,
  scheduler: Scheduler,
  conditioning: Conditioning,
  random: RandomStream,
): Promise<LoopResult> => {
  const [channels, height, width] = binding.latentShape;
  const count = channels * height * width;
  const unit = request.initialLatents ?? random.normal(count);
  let latents: Float32Array = unit.map((value) => value * scheduler.initNoiseSigma);
  const stepTimes: number[] = [];
  for (const [index, timestep] of scheduler.timesteps.entries()) {
    checkAborted(request.signal, `step ${index + 1} of ${scheduler.timesteps.length}`);
    const sample = scheduler.scaleModelInput(latents, index);
    const [prediction, step_ms] = await timed(() =>
      predict(binding, sample, timestep, conditioning, request.guidanceScale),
    );
    latents = scheduler.step(prediction, index, latents, () => random.normal(count));
    stepTimes.push(step_ms);
    request.onStep?.({ step: index + 1, steps: scheduler.timesteps.length, timestep, step_ms, latents });
  }
  return { latents, stepTimes };
};
