/**
 * What sets one family of diffusion models apart, as data: which networks encode a prompt, which inputs the denoiser has,
 * how its latents lie, how guidance and schedule are done. Everything else is common to all.
 */
import type { InputRole, InputValues } from '../denoiser-inputs.js';
import type { LatentLayout } from '../latent-layout.js';
import type { ScheduleRequest } from '../schedulers/scheduler.js';
import type { EncoderOutputs, TextEncoder } from '../text-encoder.js';

/** The text encoders that a pipeline may have, by their folders. */
export const ENCODER_FOLDERS = ['text_encoder', 'text_encoder_2', 'text_encoder_3'] as const;
export type EncoderFolder = (typeof ENCODER_FOLDERS)[number];

/** A text encoder with its tokenizer, by their folders. */
export interface EncoderPart {
  readonly folder: EncoderFolder;
  readonly tokenizer: 'tokenizer' | 'tokenizer_2' | 'tokenizer_3';
  readonly outputs: EncoderOutputs;
  /**
   * Tokens that a prompt is padded to: as many as its tokenizer names, as the embeddings have, or as the first encoder leaves of
   * these.
   */
  readonly length: 'own' | 'sequence' | 'rest';
  /** Tokens that the vocabulary must have. */
  readonly tokens?: readonly string[];
  /** Whether model_index.json may leave it out. */
  readonly optional?: true;
}

/** Classifier-free guidance: a second pass with another prompt, or none. */
export interface Guidance {
  /** Guidance is on above this scale. */
  readonly above: number;
  /** How far the prediction moves from the unconditional one (0) through the conditional one (1) and beyond. */
  weight(scale: number): number;
}

/** What a prompt is encoded with. */
export interface EncodeContext {
  readonly encoders: ReadonlyMap<EncoderFolder, TextEncoder>;
  /** `[sequence, width]` of the embeddings that the denoiser was opened for. */
  readonly embeddingShape: readonly [number, number];
  /** Whether the unconditional embeddings are zeros where there is no negative prompt. */
  readonly zeroUnconditional: boolean;
}

export interface EncodedPrompt {
  /** What the prompt adds to the denoiser's inputs. */
  readonly values: InputValues;
  /** Parts of the prompt that did not fit. */
  readonly truncated: readonly string[];
}

/** The denoiser's latents and steps, where a schedule depends on them. */
export interface ScheduleContext {
  readonly numInferenceSteps: number;
  /** Patches of 2 by 2 latents. */
  readonly imageTokens: number;
}

export interface Family {
  /** As people call it. */
  readonly name: string;
  /** `_class_name`s of model_index.json. */
  readonly classNames: readonly string[];
  readonly denoiser: 'unet' | 'transformer';
  readonly encoders: readonly EncoderPart[];
  readonly inputs: readonly InputRole[];
  /** Inputs that some of its models have. */
  readonly optionalInputs: readonly InputRole[];
  readonly layout: LatentLayout;
  /** Latents along a side come in multiples of this. */
  readonly patch: number;
  /** Absent where models have no second pass, and so no negative prompt. */
  readonly guidance?: Guidance;
  /** Without a negative prompt the unconditional embeddings are zeros, not those of an empty prompt. */
  readonly zeroUnconditional?: true;
  /** As diffusers' pipeline has them, unless its comment says otherwise; `pixels` where the denoiser's config does not say. */
  readonly defaults: {
    readonly numInferenceSteps: number;
    readonly guidanceScale: number;
    readonly pixels?: number;
  };
  /** The tokens that a denoiser is opened for must be a multiple of this; 1 where absent. */
  readonly sequenceMultiple?: number;
  /** Tokens of the embeddings where the denoiser takes any number. */
  sequenceLength(tokenizerLength: number): number;
  schedule(context: ScheduleContext): ScheduleRequest;
  /** The timestep as the network takes it. */
  timestep(timestep: number): number;
  /** -1 where the network predicts the velocity from noise to the picture; schedulers reckon from the picture to noise. */
  readonly sign: 1 | -1;
  /** @throws TandemError `SESSION_FAILED`, `SESSION_TIMEOUT` or `MODEL_INPUTS` */
  encode(prompt: string, context: EncodeContext): Promise<EncodedPrompt>;
}

/** Guidance as in "Classifier-Free Diffusion Guidance", with 1 for none. */
export const CLASSIFIER_FREE: Guidance = { above: 1, weight: (scale) => scale };

export const identity = (value: number): number => value;
