/** What the denoiser is told of one image beside latents and timestep: prompts, guidance, and the picture's size. */
import type { DenoiserBinding } from './denoiser-binding.js';
import { INPUT_ROLES, type InputRole, type InputValues } from './denoiser-inputs.js';
import { modelInputsError } from './errors.js';
import type { EncodeContext, EncodedPrompt, Family } from './families/family.js';
import { guidanceEmbedding } from './guidance.js';
import type { ImageRequest } from './image-request.js';
import { syntaxWarnings } from './prompt-syntax.js';

export interface Conditioning {
  /** In the order in which they are fed: the unconditional one first, and only where there is guidance. */
  readonly prompts: readonly InputValues[];
  readonly shared: InputValues;
  /** How far predictions move from the unconditional to the conditional one; absent without guidance. */
  readonly guidanceWeight?: number;
  readonly warnings: readonly string[];
}

/** The image to condition for; sizes in pixels. */
export interface ConditioningRequest {
  readonly image: ImageRequest;
  readonly width: number;
  readonly height: number;
}

/** Row and column of each patch of 2 by 2 latents: `[tokens, 3]`, the first number always 0. */
const patchPlaces = ([, height, width]: DenoiserBinding['latentShape']): number[] => {
  const columns = width / 2;
  return Array.from({ length: (height / 2) * columns }, (_, token) => [
    0,
    Math.floor(token / columns),
    token % columns,
  ]).flat();
};

type SharedValue = (request: ConditioningRequest, binding: DenoiserBinding) => Float32Array | readonly number[];

/** Inputs that do not depend on the prompt. */
const SHARED: { readonly [Role in InputRole]?: SharedValue } = {
  // Trained on crops: the original size, where the crop begins, the size that is wanted.
  timeIds: ({ width, height }) => [height, width, 0, 0, height, width],
  guidance: ({ image }) => [image.guidanceScale],
  guidanceEmbedding: ({ image }, binding) =>
    guidanceEmbedding(image.guidanceScale, binding.input('guidanceEmbedding')?.shape[1] ?? 0),
  imageIds: (_, binding) => patchPlaces(binding.latentShape),
  textIds: (_, { embeddingShape: [sequence] }) => Array<number>(sequence * 3).fill(0),
};

const sharedInputs = (request: ConditioningRequest, binding: DenoiserBinding): InputValues =>
  Object.fromEntries(
    INPUT_ROLES.flatMap((role) => {
      const value = SHARED[role];
      return value === undefined || binding.input(role) === undefined ? [] : [[role, value(request, binding)]];
    }),
  );

/** Refuses a denoiser that was opened for other prompts before its first step. */
const checkLengths = (values: InputValues, binding: DenoiserBinding): void => {
  const [sequence, width] = binding.embeddingShape;
  const found = values.embeddings?.length ?? 0;
  if (found === sequence * width) return;
  throw modelInputsError('denoiser', [
    `It was opened for prompt embeddings of [${sequence}, ${width}], but the text encoders give ${found} values; open it for that sequence length.`,
  ]);
};

const LONGEST_QUOTED = 400;

/** A prompt may be a book: of a long text its beginning and its end. */
const shortened = (text: string): string => {
  const letters = [...text];
  if (letters.length <= LONGEST_QUOTED) return text;
  const half = LONGEST_QUOTED / 2;
  return `${letters.slice(0, half).join('')} [...] ${letters.slice(-half).join('')}`;
};

const truncationWarnings = (name: string, { truncated }: EncodedPrompt): string[] =>
  truncated.map(
    (text) => `The ${name} is too long for the text encoder; this part of it was left out: "${shortened(text)}".`,
  );

const zeros = (values: InputValues): InputValues =>
  Object.fromEntries(Object.entries(values).map(([role, value]) => [role, new Float32Array(value.length)]));

/** Whether an image takes a second pass; models that are given the scale itself never do. */
const isGuided = ({ guidance }: Family, binding: DenoiserBinding, scale: number): boolean =>
  guidance !== undefined && scale > guidance.above && binding.input('guidanceEmbedding') === undefined;

const effectWarnings = (family: Family, binding: DenoiserBinding, image: ImageRequest, guided: boolean): string[] => [
  ...(!guided && image.negativePrompt ? ['The negative prompt has no effect without classifier-free guidance.'] : []),
  ...(family.guidance === undefined &&
  binding.input('guidance') === undefined &&
  image.guidanceScale !== family.defaults.guidanceScale
    ? [`This model takes no guidance scale: ${image.guidanceScale} has no effect.`]
    : []),
];

/** Encodes the prompts of one image and works out the rest of the denoiser's inputs. */
export const condition = async (
  request: ConditioningRequest,
  family: Family,
  binding: DenoiserBinding,
  context: EncodeContext,
): Promise<Conditioning> => {
  const { image } = request;
  const guided = isGuided(family, binding, image.guidanceScale);
  const positive = await family.encode(image.prompt, context);
  checkLengths(positive.values, binding);
  const unconditional = async (): Promise<EncodedPrompt> =>
    image.negativePrompt === undefined && context.zeroUnconditional
      ? { values: zeros(positive.values), truncated: [] }
      : family.encode(image.negativePrompt ?? '', context);
  const negative = guided ? await unconditional() : undefined;
  const { guidance } = family;
  return {
    prompts: negative === undefined ? [positive.values] : [negative.values, positive.values],
    shared: sharedInputs(request, binding),
    ...(guided && guidance !== undefined ? { guidanceWeight: guidance.weight(image.guidanceScale) } : {}),
    warnings: [
      ...syntaxWarnings('prompt', image.prompt),
      ...syntaxWarnings('negative prompt', image.negativePrompt ?? ''),
      ...truncationWarnings('prompt', positive),
      ...(negative === undefined ? [] : truncationWarnings('negative prompt', negative)),
      ...effectWarnings(family, binding, image, guided),
    ],
  };
};
