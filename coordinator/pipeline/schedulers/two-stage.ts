/**
 * Solvers that call the network twice a step: once at the step's level, once at a further one, from where the step is taken again.
 * The last step, down to nothing, has one call. Calls are numbered through, so a schedule of n steps has 2n - 1 of them.
 */

export interface Stage {
  /** The step, 0-based. */
  readonly step: number;
  /** Whether this is its second call. */
  readonly second: boolean;
}

export const stageOf = (call: number): Stage => ({ step: Math.floor(call / 2), second: call % 2 === 1 });

/** Values of the calls, from those of the steps: each step's own, then that between it and the next. */
export const interleaved = (own: readonly number[], between: (step: number) => number): number[] =>
  own.flatMap((value, step) => (step === own.length - 1 ? [value] : [value, between(step)]));

/** What the first call of a step leaves for the second, by step, so that either can be run again. */
export const createMemory = <T>(): { keep(step: number, value: T): T; of(step: number): T } => {
  const kept: T[] = [];
  return {
    keep(step, value) {
      kept[step] = value;
      return value;
    },
    of(step) {
      const value = kept[step];
      if (value === undefined)
        throw new RangeError(`Step ${step} is not there yet: steps are taken in order, from 0 on.`);
      return value;
    },
  };
};
