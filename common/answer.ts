/**
 * What another thread or process answers. Errors lose their class and code on the way, so they cross as data, and everywhere in
 * the same form: the inside answers with `answer`, the outside takes the value with `unwrap`.
 */
import { toErrorCode } from './error-codes.js';
import { type ErrorCode, TandemError } from './errors.js';

/** An error as data. */
export interface Problem {
  /** Of the catalogue; what came from another version may have one that is not. */
  readonly code: string;
  readonly message: string;
  readonly problems: readonly string[];
}

export type Failed = { readonly kind: 'failed'; readonly problem: Problem };

export type Answer<T> = { readonly kind: 'done'; readonly value: T } | Failed;

/** @param code of an error that is not Tandem's own */
export const toProblem = (error: unknown, code: ErrorCode = 'INTERNAL'): Problem => {
  if (error instanceof TandemError) return { code: error.code, message: error.message, problems: error.problems };
  return { code, message: error instanceof Error ? error.message : String(error), problems: [] };
};

/** The error that a problem once was. */
export const fromProblem = ({ code, message, problems }: Problem): TandemError =>
  new TandemError(toErrorCode(code), message.trim(), { problems });

/**
 * What `work` returns or throws.
 * @param code of an error that is not Tandem's own
 */
export const answer = async <T>(work: () => T | Promise<T>, code?: ErrorCode): Promise<Answer<T>> => {
  try {
    return { kind: 'done', value: await work() };
  } catch (error) {
    return { kind: 'failed', problem: toProblem(error, code) };
  }
};

/**
 * What was answered.
 * @param toError in whose words a problem is told; in its own where absent
 * @throws the error that `toError` makes of a problem
 */
export const unwrap = <T>(given: Answer<T>, toError: (problem: Problem) => Error = fromProblem): T => {
  if (given.kind === 'done') return given.value;
  throw toError(given.problem);
};
