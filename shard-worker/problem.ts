/** Errors as data. Apart from the messages' schemas, which the compute thread does without: it is sooner ready. */
import { toErrorCode } from '../common/error-codes.js';
import { TandemError } from '../common/errors.js';
import type { Problem } from './protocol.js';

/** Any error as data, for a `failed` message. */
export const toProblem = (error: unknown): Problem => {
  if (error instanceof TandemError) return { code: error.code, message: error.message, problems: [...error.problems] };
  return { code: 'INTERNAL', message: error instanceof Error ? error.message : String(error), problems: [] };
};

/** The error that a problem once was. */
export const fromProblem = ({ code, message, problems }: Problem): TandemError =>
  new TandemError(toErrorCode(code), message.trim(), { problems });
