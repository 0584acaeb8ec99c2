/**
 * What the inputs of denoisers mean. Exporters name an input by the argument of the network's `forward`, so a name has one
 * meaning in all families; a family says only which inputs its denoisers have.
 */
import type { DType } from '../../common/tensor.js';
import { type DenoiserSize, sampleShape } from './latent-layout.js';

export interface InputRule {
  /** By any exporter: Optimum's, and those of a plain export of diffusers' modules. */
  readonly names: readonly string[];
  readonly dtypes: readonly DType[];
  /**
   * Sizes of the axes, in order; undefined where an axis must be fixed in the model already.
   * @param rank number of axes that the model's input has
   */
  axes(size: DenoiserSize, rank: number): readonly (number | undefined)[];
}

const FLOATS: readonly DType[] = ['float32', 'float16', 'float64'];
export const WHOLE: readonly DType[] = ['int64', 'int32'];
const NUMBERS: readonly DType[] = [...FLOATS, ...WHOLE];

/** Position ids: `[tokens, 3]`; exports of older versions of diffusers have a batch before. */
const positionAxes = (tokens: number, batch: number, rank: number): readonly (number | undefined)[] =>
  rank === 3 ? [batch, tokens, undefined] : [tokens, undefined];

export const INPUTS = {
  /** The latents, by UNets' and by transformers' name. */
  sample: { names: ['sample', 'hidden_states'], dtypes: FLOATS, axes: sampleShape },
  /** One timestep is broadcast over the batch by every exporter's graph. */
  timestep: { names: ['timestep'], dtypes: NUMBERS, axes: () => [1] },
  /** `[sequence, width]` a prompt. */
  embeddings: {
    names: ['encoder_hidden_states'],
    dtypes: FLOATS,
    axes: ({ batch, sequenceLength }) => [batch, sequenceLength, undefined],
  },
  /** Which of a prompt's embeddings are its own: `[sequence]` of 1 and 0. */
  attentionMask: {
    names: ['encoder_attention_mask'],
    dtypes: [...NUMBERS, 'bool'],
    axes: ({ batch, sequenceLength }) => [batch, sequenceLength],
  },
  /** The whole prompt in one vector, by SDXL's and by the transformers' name. */
  pooled: {
    names: ['text_embeds', 'added_cond_kwargs_text_embeds', 'pooled_projections'],
    dtypes: FLOATS,
    axes: ({ batch }) => [batch],
  },
  /** Original size, crop and target size in pixels: `[6]`. */
  timeIds: {
    names: ['time_ids', 'added_cond_kwargs_time_ids'],
    dtypes: NUMBERS,
    axes: ({ batch }) => [batch, 6],
  },
  /** The guidance scale itself, for models distilled from a guided one (FLUX.1 dev). */
  guidance: { names: ['guidance'], dtypes: FLOATS, axes: ({ batch }) => [batch] },
  /** The guidance scale as waves, for models distilled from a guided one (LCM). */
  guidanceEmbedding: { names: ['timestep_cond'], dtypes: FLOATS, axes: ({ batch }) => [batch] },
  /** Row and column of each token of the picture: `[tokens, 3]`. */
  imageIds: {
    names: ['img_ids'],
    dtypes: NUMBERS,
    axes: (size, rank) => positionAxes((size.height / 2) * (size.width / 2), size.batch, rank),
  },
  /** Zeros: a text's tokens have no place in the picture. */
  textIds: {
    names: ['txt_ids'],
    dtypes: NUMBERS,
    axes: ({ batch, sequenceLength }, rank) => positionAxes(sequenceLength, batch, rank),
  },
} as const satisfies Readonly<Record<string, InputRule>>;

export type InputRole = keyof typeof INPUTS;

export const INPUT_ROLES = Object.keys(INPUTS) as readonly InputRole[];

/** What an input of this name is; undefined for names that no family has. */
export const roleOf = (name: string): InputRole | undefined =>
  INPUT_ROLES.find((role) => (INPUTS[role].names as readonly string[]).includes(name));

/** Values of some inputs, by role, for one row of the batch; row-major, whole numbers for integer inputs. */
export type InputValues = { readonly [Role in InputRole]?: Float32Array | readonly number[] };
