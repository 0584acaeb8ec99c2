/** The way back: once everything is eliminated, the choices are read off in the reverse order. */
import type { BackPointers } from './cost-table.js';

/** What to choose for a variable, given the choices for `scope`, which were all eliminated later. */
export interface Decision {
  readonly variable: number;
  /** The variable's states when it was eliminated, by their index in its domain. */
  readonly states: Int32Array;
  readonly scope: readonly number[];
  /** The same of each variable of `scope`: it may have lost states since, but has gained none. */
  readonly scopeStates: readonly Int32Array[];
  /** Index into `states` for each combination of the scope's states, row-major. */
  readonly argmin: BackPointers;
}

/**
 * @param decisions one for each variable, in the order of elimination
 * @returns `[decisions.length]`, each variable's state by its index in the domain
 */
export const traceBack = (decisions: readonly Decision[]): Int32Array => {
  const choice = new Int32Array(decisions.length);
  for (const { variable, states, scope, scopeStates, argmin } of decisions.toReversed()) {
    const entry = scopeStates.reduce(
      (index, known, axis) => index * known.length + known.indexOf(choice[scope[axis] as number] as number),
      0,
    );
    choice[variable] = states[argmin[entry] as number] as number;
  }
  return choice;
};
