/**
 * The networks of a pipeline beside its denoiser, wherever they run: in sessions of this process, or in the workers, which must
 * be told the sizes and the outputs that a picture needs.
 */
import type { Session, TensorMetadata } from '../../common/onnxruntime.js';
import type { HostTensor, TensorSpec } from '../../common/tensor.js';
import type { Network } from '../denoiser.js';
import { roleOf } from './denoiser-inputs.js';
import { dimSizes, fixedSpecs } from './denoiser-sizes.js';
import { modelInputsError } from './errors.js';
import { ENCODER_FOLDERS, type EncoderPart } from './families/family.js';
import type { LatentShape } from './latent-layout.js';
import type { EncoderFiles, ModelDirectory } from './model-directory.js';
import type { SessionThread } from './session-thread.js';
import { findOutputs } from './text-encoder.js';

/** By their folders. */
export const NETWORK_NAMES = [...ENCODER_FOLDERS, 'vae_decoder'] as const;
export type NetworkName = (typeof NETWORK_NAMES)[number];

/** What a model declares of itself. */
export type Declared = Pick<Session, 'inputs' | 'outputs'>;

/** A network that runs elsewhere. */
export interface OutsideNetwork {
  /** What its file declares. */
  readonly declared: Declared;
  /** Opened for fixed sizes and for the outputs that are used. */
  readonly network: Network | Promise<Network>;
}

/** Sizes of a picture that decide those of the networks around the denoiser. */
export interface NetworkSizes {
  /** Tokens of the embeddings that the denoiser takes. */
  readonly sequence: number;
  readonly latents: LatentShape;
}

/** Where a network is, and how it is opened for a picture. */
export interface NetworkOpening {
  /** Sizes of its symbolic dims by name. */
  readonly dims: Readonly<Record<string, number>>;
  /** The outputs that are used, by name. */
  readonly outputs: readonly string[];
}

/** The networks that a model has, with their `.onnx` files. */
export const networkFiles = ({ encoders, vaeDecoder }: ModelDirectory): ReadonlyMap<NetworkName, string> =>
  new Map<NetworkName, string>([
    ...encoders.map(({ part, model }) => [part.folder, model] as const),
    ['vae_decoder', vaeDecoder],
  ]);

const promptLength = ({ length }: EncoderPart, own: number, first: number, sequence: number): number => {
  switch (length) {
    case 'own':
      return own;
    case 'sequence':
      return sequence;
    case 'rest':
      return sequence - first;
    default:
      return length satisfies never;
  }
};

const encoderOpening = (
  { part, ownLength }: EncoderFiles,
  { encoders }: ModelDirectory,
  { sequence }: NetworkSizes,
  declared: Declared,
): NetworkOpening => {
  const { hidden, pooled } = findOutputs(declared, part.folder, part.outputs);
  const length = promptLength(part, ownLength, encoders[0]?.ownLength ?? ownLength, sequence);
  return {
    dims: dimSizes(part.folder, declared.inputs, () => [1, length]),
    outputs: [hidden, pooled].filter((name) => name !== undefined),
  };
};

/**
 * How a network of a model is opened for a picture: one prompt, or one picture, at a time.
 * @throws TandemError `MODEL_INPUTS` where it cannot be driven, or a dim's size is not known
 */
export const openingOf = (
  name: NetworkName,
  model: ModelDirectory,
  sizes: NetworkSizes,
  declared: Declared,
): NetworkOpening => {
  const encoder = model.encoders.find(({ part }) => part.folder === name);
  if (encoder !== undefined) return encoderOpening(encoder, model, sizes, declared);
  const [output] = declared.outputs;
  if (output === undefined) throw modelInputsError(name, ['It has no output.']);
  return { dims: dimSizes(name, declared.inputs, () => [1, ...sizes.latents]), outputs: [output.name] };
};

/**
 * Tokens of the embeddings of a denoiser that is opened for these dims.
 * @throws TandemError `MODEL_INPUTS` where it takes none
 */
export const sequenceOf = (inputs: readonly TensorMetadata[], dims: Readonly<Record<string, number>>): number => {
  const embeddings: TensorSpec | undefined = fixedSpecs(inputs, dims).find(({ name }) => roleOf(name) === 'embeddings');
  const sequence = embeddings?.shape[1];
  if (sequence === undefined) throw modelInputsError('denoiser', ['It has no input with prompt embeddings.']);
  return sequence;
};

/** Latents of a picture: `[channels, height, width]`. */
export const latentsFor = (
  { latents }: ModelDirectory,
  { width, height }: { readonly width: number; readonly height: number },
): LatentShape => [latents.channels, height / latents.downscale, width / latents.downscale];

/** Pixels where neither the denoiser's inputs nor its config say any: Stable Diffusion 1's. */
const FALLBACK_PIXELS = 512;

/** Pixels of the picture that a denoiser is opened for; where its latents lie in patches, which do not say it, the model's own. */
export const pictureSize = (
  model: ModelDirectory,
  inputs: readonly TensorMetadata[],
  dims: Readonly<Record<string, number>>,
): { readonly width: number; readonly height: number } => {
  const { family, latents, defaultSize } = model;
  const sample = fixedSpecs(inputs, dims).find(({ name }) => roleOf(name) === 'sample');
  const [, , height, width] = sample?.shape ?? [];
  if (family.layout === 'planes' && height !== undefined && width !== undefined)
    return { width: width * latents.downscale, height: height * latents.downscale };
  return defaultSize ?? { width: FALLBACK_PIXELS, height: FALLBACK_PIXELS };
};

/** Sizes are those that the network was opened for; outputs as its file declares them, of which those that are used are there. */
const remoteSession = async ({ declared, network }: OutsideNetwork): Promise<Session> => {
  const { inputs, step } = await network;
  return {
    inputs,
    outputs: declared.outputs,
    run: (feeds: Readonly<Record<string, HostTensor>>) => step(feeds),
    dispose: async () => undefined,
  };
};

/** The sessions of a model's networks while they open. */
export interface Sessions {
  /** @throws TandemError `MODEL_INPUTS` for a network that the model does not have; as `SessionThread.open` does */
  of(name: NetworkName): Promise<Session>;
  /** Waits until nothing is being opened in this process: a thread that is ended in the middle of that takes the process with it. */
  settled(): Promise<void>;
}

/**
 * Begins to open all networks of a model but the denoiser: in the workers where they run there, else in this process, one
 * after the other until one fails.
 */
export const openSessions = (
  thread: SessionThread,
  model: ModelDirectory,
  remotes: ReadonlyMap<NetworkName, OutsideNetwork> = new Map(),
): Sessions => {
  const opening = new Map<NetworkName, Promise<Session>>();
  let last: Promise<unknown> = Promise.resolve();
  for (const [name, file] of networkFiles(model)) {
    const remote = remotes.get(name);
    const session = remote === undefined ? last.then(() => thread.open(file)) : remoteSession(remote);
    // Whoever asks for it is told.
    session.catch(() => undefined);
    opening.set(name, session);
    if (remote === undefined) last = session;
  }
  return {
    async of(name) {
      const session = await opening.get(name);
      if (session === undefined) throw modelInputsError(name, ['The model does not have it.']);
      return session;
    },
    settled: () =>
      last.then(
        () => undefined,
        () => undefined,
      ),
  };
};
