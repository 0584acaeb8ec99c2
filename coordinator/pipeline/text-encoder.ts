/** Prompt to embeddings: a tokenizer and a text encoder's session. */
import type { Session, TensorMetadata } from '../../common/onnxruntime.js';
import { modelInputsError } from './errors.js';
import { toFloat32, toHostTensor } from './host-tensor.js';
import type { PromptTokenizer, TokenizedPrompt } from './tokenizer.js';

/** One state a token, row-major. */
export interface HiddenStates {
  readonly data: Float32Array;
  /** `[tokens, width]`. */
  readonly shape: readonly [number, number];
}

export interface EncodedText {
  /** Empty where the encoder was opened for no states. */
  readonly hidden: HiddenStates;
  /** The whole prompt in one vector; empty where the encoder was opened for none. */
  readonly pooled: Float32Array;
  /** The part of the prompt that did not fit, if any. */
  readonly truncated: readonly string[];
}

export interface EncodeOptions {
  /** Tokens to pad or truncate the prompt to. */
  readonly length: number;
  /**
   * The encoder's tokens see only those before them, so padding changes nothing: it is left out where the model takes
   * any length, and the states returned are those of the prompt's own tokens.
   */
  readonly causal?: true;
}

export interface TextEncoder {
  readonly tokenizer: PromptTokenizer;
  /** @throws TandemError `SESSION_FAILED` or `SESSION_TIMEOUT` */
  encode(prompt: string, options: EncodeOptions): Promise<EncodedText>;
}

/** Which of a text encoder's outputs are used. */
export interface EncoderOutputs {
  /** `[sequence, width]` after the last layer and its norm, or before the last layer. */
  readonly hidden?: 'last' | 'penultimate';
  /** The whole prompt in one vector, by the output's name. */
  readonly pooled?: 'text_embeds' | 'pooler_output';
}

/** What a model declares of itself. */
type Declared = Pick<Session, 'inputs' | 'outputs'>;

const IDS = 'input_ids';
const MASK = 'attention_mask';
const LAST = 'last_hidden_state';

/** `hidden_states.7`, with which Optimum names the states after seven layers. */
const LAYER = /^hidden_states\.(\d+)$/;

/** Of the states before the first layer and after each, the one before the last layer. */
const penultimateOf = (session: Declared): string | undefined => {
  const layers = session.outputs.flatMap(({ name }) => LAYER.exec(name)?.[1] ?? []).map(Number);
  return layers.length < 2 ? undefined : `hidden_states.${Math.max(...layers) - 1}`;
};

/** The outputs to fetch, by the model's names. */
export interface Fetches {
  readonly hidden?: string;
  readonly pooled?: string;
}

/**
 * Finds the outputs of a text encoder that are wanted.
 * @throws TandemError `MODEL_INPUTS` with all that the model lacks, or has beyond ids and mask
 */
export const findOutputs = (session: Declared, name: string, wanted: EncoderOutputs): Fetches => {
  const has = (output: string): boolean => session.outputs.some((found) => found.name === output);
  const hidden = wanted.hidden === 'penultimate' ? penultimateOf(session) : wanted.hidden && LAST;
  const problems = session.inputs
    .filter((input) => input.name !== IDS && input.name !== MASK)
    .map((input) => `It has the input "${input.name}"; expected ${IDS} and ${MASK} at most.`);
  const found = `It has the outputs ${session.outputs.map((output) => output.name).join(', ')}`;
  if (wanted.hidden === 'penultimate' && hidden === undefined)
    problems.push(`${found}; expected hidden_states.0 and so on: export it with output_hidden_states=True.`);
  if (hidden !== undefined && !has(hidden)) problems.push(`${found}; expected ${hidden}.`);
  if (wanted.pooled !== undefined && !has(wanted.pooled)) problems.push(`${found}; expected ${wanted.pooled}.`);
  if (problems.length > 0) throw modelInputsError(name, problems);
  return {
    ...(hidden === undefined ? {} : { hidden }),
    ...(wanted.pooled === undefined ? {} : { pooled: wanted.pooled }),
  };
};

/** Length of the prompts that a model was exported for; undefined where it takes any. */
const fixedLength = (inputs: readonly TensorMetadata[]): number | undefined => {
  const length = inputs.find(({ name }) => name === IDS)?.shape[1];
  return typeof length === 'number' && length > 0 ? length : undefined;
};

/** Diffusers passes no mask to CLIP and T5, whose pads are seen like other tokens. */
const maskOf = ({ ids, attentionMask }: TokenizedPrompt, causal: boolean): readonly number[] =>
  causal ? attentionMask : ids.map(() => 1);

const NO_STATES: HiddenStates = { data: new Float32Array(0), shape: [0, 0] };

/** The first `tokens` states of one prompt. */
const statesOf = (values: Float32Array, length: number, tokens: number): HiddenStates => {
  const width = values.length / length;
  return { data: values.subarray(0, tokens * width), shape: [tokens, width] };
};

/**
 * Opens a text encoder on its session.
 * @param name of the encoder's folder, for messages
 * @throws TandemError `MODEL_INPUTS` when it has other inputs than ids and mask, or lacks an output that is wanted
 */
export const openTextEncoder = (
  session: Session,
  encoder: { readonly name: string; readonly outputs: EncoderOutputs },
  tokenizer: PromptTokenizer,
): TextEncoder => {
  const outputs = findOutputs(session, encoder.name, encoder.outputs);
  const fixed = fixedLength(session.inputs);
  const fetches = [outputs.hidden, outputs.pooled].filter((name) => name !== undefined);

  const tokenize = async (prompt: string, length: number, causal: boolean): Promise<TokenizedPrompt> => {
    if (fixed !== undefined && !causal && fixed !== length)
      throw modelInputsError(encoder.name, [
        `It was exported for ${fixed} tokens, but the pipeline needs ${length}; export it again with any sequence length.`,
      ]);
    return tokenizer.tokenize(prompt, {
      length: Math.min(length, fixed ?? length),
      pad: !causal || fixed !== undefined,
    });
  };

  return {
    tokenizer,
    async encode(prompt, { length, causal = false }) {
      const tokens = await tokenize(prompt, length, causal);
      const given = { [IDS]: tokens.ids, [MASK]: maskOf(tokens, causal) };
      const feeds = Object.fromEntries(
        session.inputs.map(({ name, dtype }) => {
          const values = name === MASK ? given[MASK] : given[IDS];
          return [name, toHostTensor(values, dtype, [1, values.length])];
        }),
      );
      const found = await session.run(feeds, fetches);
      const hidden = outputs.hidden === undefined ? undefined : found[outputs.hidden];
      const pooled = outputs.pooled === undefined ? undefined : found[outputs.pooled];
      const kept = causal ? tokens.attentionMask.filter((seen) => seen === 1).length : tokens.ids.length;
      return {
        hidden: hidden === undefined ? NO_STATES : statesOf(toFloat32(hidden), tokens.ids.length, kept),
        pooled: pooled === undefined ? new Float32Array(0) : toFloat32(pooled),
        truncated: tokens.truncatedText === undefined ? [] : [tokens.truncatedText],
      };
    },
  };
};
