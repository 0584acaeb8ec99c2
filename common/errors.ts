/**
 * The error type of the whole project. A message says what was expected, what was found and what to do; the command line prints
 * `message` and `problems`, never a stack. Codes are those of the catalogue, `error-codes.ts`.
 */
import type { ErrorCode } from './error-codes.js';

export type { ErrorCode } from './error-codes.js';

export class TandemError extends Error {
  override readonly name = 'TandemError';
  readonly code: ErrorCode;
  /** All the problems found, where a check finds several; each is one line. */
  readonly problems: readonly string[];

  constructor(code: ErrorCode, message: string, options: { problems?: readonly string[]; cause?: unknown } = {}) {
    super(message, options.cause === undefined ? undefined : { cause: options.cause });
    this.code = code;
    this.problems = options.problems ?? [];
  }
}
