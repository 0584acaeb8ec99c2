/** What families share in turning prompts into embeddings. */
import { modelInputsError } from '../errors.js';
import type { HiddenStates, TextEncoder } from '../text-encoder.js';
import type { EncodeContext, EncoderFolder } from './family.js';

/** An encoder that the family requires: it was opened with the model. */
export const encoderOf = ({ encoders }: EncodeContext, folder: EncoderFolder): TextEncoder => {
  const encoder = encoders.get(folder);
  if (encoder === undefined) throw modelInputsError(folder, ['It was not opened.']);
  return encoder;
};

/** The length that an encoder's own tokenizer names; CLIP knows no other. */
export const ownLength = ({ tokenizer }: TextEncoder): number => tokenizer.modelMaxLength;

/** Two encoders' states of the same tokens beside each other. */
export const besides = (left: HiddenStates, right: HiddenStates): HiddenStates => {
  const [tokens, leftWidth] = left.shape;
  const [, rightWidth] = right.shape;
  const width = leftWidth + rightWidth;
  const data = new Float32Array(tokens * width);
  for (let token = 0; token < tokens; token++) {
    data.set(left.data.subarray(token * leftWidth, (token + 1) * leftWidth), token * width);
    data.set(right.data.subarray(token * rightWidth, (token + 1) * rightWidth), token * width + leftWidth);
  }
  return { data, shape: [tokens, width] };
};

/** The states in the first tokens and features of a larger, otherwise zero array. */
export const padded = (
  { data, shape: [tokens, width] }: HiddenStates,
  shape: readonly [number, number],
): HiddenStates => {
  const [length, wider] = shape;
  const result = new Float32Array(length * wider);
  for (let token = 0; token < tokens; token++)
    result.set(data.subarray(token * width, (token + 1) * width), token * wider);
  return { data: result, shape };
};

/** Vectors one after the other. */
export const joined = (...parts: readonly Float32Array[]): Float32Array => {
  const result = new Float32Array(parts.reduce((length, part) => length + part.length, 0));
  let offset = 0;
  for (const part of parts) {
    result.set(part, offset);
    offset += part.length;
  }
  return result;
};
