/**
 * The error type of the whole project and the catalogue of this folder's errors. A message says what was expected,
 * what was found and what to do. The command line prints `message` and `problems`, never a stack.
 */
export class TandemError extends Error {
  override readonly name = 'TandemError';
  readonly code: string;
  /** All the problems found, where a check finds several; each is one line. */
  readonly problems: readonly string[];

  constructor(code: string, message: string, options: { problems?: readonly string[]; cause?: unknown } = {}) {
    super(message, options.cause === undefined ? undefined : { cause: options.cause });
    this.code = code;
    this.problems = options.problems ?? [];
  }
}
