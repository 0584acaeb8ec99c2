/** Prompt to prompt embeddings: the tokenizer and the text encoder's session. */
import type { Session, TensorMetadata } from '../../partition/onnxruntime.js';
import type { HostTensor } from '../../partition/tensor.js';
import { modelInputsError } from './errors.js';
import { toFloat32, toHostTensor } from './host-tensor.js';
import type { SessionThread } from './session-thread.js';
import type { PromptTokenizer, TokenizedPrompt } from './tokenizer.js';

export interface EncodedPrompt {
  /** `[sequence * width]`, row-major. */
  readonly embeddings: Float32Array;
  /** `[sequence, width]`. */
  readonly shape: readonly number[];
  /** The part of the prompt that did not fit. */
  readonly truncatedText?: string;
}

export interface TextEncoder {
  /** @throws TandemError `SESSION_FAILED` or `SESSION_TIMEOUT` */
  encode(prompt: string): Promise<EncodedPrompt>;
}

const OUTPUT = 'last_hidden_state';

/** What each input is filled with; an exporter asks for the ids alone or for the mask as well. */
const FILLERS: Readonly<Record<string, (prompt: TokenizedPrompt) => readonly number[]>> = {
  input_ids: ({ ids }) => ids,
  attention_mask: ({ attentionMask }) => attentionMask,
};

const check = (session: Session): void => {
  const problems = session.inputs
    .filter(({ name }) => FILLERS[name] === undefined)
    .map(({ name }) => `It has the input "${name}"; expected ${Object.keys(FILLERS).join(' and ')} at most.`);
  if (!session.outputs.some(({ name }) => name === OUTPUT))
    problems.push(`It has the outputs ${session.outputs.map(({ name }) => name).join(', ')}; expected ${OUTPUT}.`);
  if (problems.length > 0) throw modelInputsError('text encoder', problems);
};

const feed = (input: TensorMetadata, prompt: TokenizedPrompt): [string, HostTensor] => {
  const values = FILLERS[input.name]?.(prompt) ?? [];
  return [input.name, toHostTensor(values, input.dtype, [1, values.length])];
};

/**
 * Opens a text encoder.
 * @throws TandemError `MODEL_INPUTS` when its inputs or outputs are not those of a CLIP text model
 */
export const openTextEncoder = async (
  thread: SessionThread,
  model: string,
  tokenizer: PromptTokenizer,
): Promise<TextEncoder> => {
  const session = await thread.open(model);
  check(session);
  return {
    async encode(prompt) {
      const tokens = tokenizer.tokenize(prompt);
      const outputs = await session.run(Object.fromEntries(session.inputs.map((input) => feed(input, tokens))));
      const hidden = outputs[OUTPUT];
      if (hidden === undefined) throw modelInputsError('text encoder', [`It returned no ${OUTPUT}.`]);
      return {
        embeddings: toFloat32(hidden),
        shape: hidden.shape.slice(1),
        ...(tokens.truncatedText === undefined ? {} : { truncatedText: tokens.truncatedText }),
      };
    },
  };
};
