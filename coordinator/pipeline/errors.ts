/**
 * The pipeline's error catalogue: everything that can go wrong between a prompt and a picture. Codes that start with
 * `REQUEST_` are mistakes in what was asked for; the others concern the model directory or the machine.
 */
import { TandemError } from '../../common/errors.js';

export const MODEL_DIRECTORY = 'MODEL_DIRECTORY';
export const MODEL_INPUTS = 'MODEL_INPUTS';
export const SCHEDULER_UNSUPPORTED = 'SCHEDULER_UNSUPPORTED';
export const REQUEST_INVALID = 'REQUEST_INVALID';
export const REQUEST_ABORTED = 'REQUEST_ABORTED';
export const TOKENIZER_INVALID = 'TOKENIZER_INVALID';
export const TENSOR_TYPE = 'TENSOR_TYPE';
export const SESSION_FAILED = 'SESSION_FAILED';
export const SESSION_TIMEOUT = 'SESSION_TIMEOUT';

/** All that is missing or malformed in a model directory. */
export const modelDirectoryError = (directory: string, problems: readonly string[]): TandemError =>
  new TandemError(
    MODEL_DIRECTORY,
    `${directory} is not a model that can be run: expected the diffusers layout with ONNX parts (model_index.json, tokenizer/, ` +
      `text_encoder/model.onnx and those with _2 and _3 that its class has, unet/model.onnx or transformer/model.onnx, ` +
      `vae_decoder/model.onnx, scheduler/scheduler_config.json); ` +
      `found ${problems.length} problem${problems.length === 1 ? '' : 's'}. Export the model again with Optimum or fix the files named.`,
    { problems },
  );

/** A model whose inputs or outputs the pipeline cannot feed or read. */
export const modelInputsError = (model: string, problems: readonly string[]): TandemError =>
  new TandemError(MODEL_INPUTS, `The ${model} cannot be driven by this pipeline: ${problems.join(' ')}`, { problems });

/** A request that cannot be carried out as asked. */
export const requestError = (message: string, problems: readonly string[] = []): TandemError =>
  new TandemError(REQUEST_INVALID, message, { problems });

/** The caller's signal fired. */
export const abortedError = (phase: string, cause: unknown): TandemError =>
  new TandemError(
    REQUEST_ABORTED,
    `The image was cancelled during ${phase}; nothing was written. Start it again to get it.`,
    { cause },
  );
