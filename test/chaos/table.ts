/** What is done to whom, and when. Everything that tests do, and `npm run chaos` at random, is a row of this. */

export const FAULTS = ['kill', 'freeze', 'cache-gone', 'runtime-gone'] as const;
/** `cache-gone` and `runtime-gone` do no harm by themselves: the victim is killed as well. */
export type Fault = (typeof FAULTS)[number];

export const VICTIMS = ['rank 0', 'rank 1', 'both ranks', 'coordinator'] as const;
export type Victim = (typeof VICTIMS)[number];

export const PHASES = ['start', 'load', 'idle', 'step', 'recovery', 'drain'] as const;
export type Phase = (typeof PHASES)[number];

export interface Case {
  readonly fault: Fault;
  readonly victim: Victim;
  readonly phase: Phase;
}

/**
 * What must come of it. In every case no process is left behind, and nothing unforeseen is said.
 * - `refused`: the launch ends with an error that names the loss
 * - `recovers`: the step under way, or the next one, has the outputs of an undisturbed one
 * - `taken over`: the next coordinator's step has
 * - `ends`: it was about to end, and does
 */
export type Outcome = 'refused' | 'recovers' | 'taken over' | 'ends';

export const outcomeOf = ({ fault, victim, phase }: Case): Outcome => {
  if (phase === 'drain') return victim === 'coordinator' && fault !== 'freeze' ? 'taken over' : 'ends';
  if (victim === 'coordinator') return fault === 'freeze' ? 'recovers' : 'taken over';
  return phase === 'start' || phase === 'load' ? 'refused' : 'recovers';
};

export const CASES: readonly Case[] = FAULTS.flatMap((fault) =>
  VICTIMS.flatMap((victim) => PHASES.map((phase) => ({ fault, victim, phase }))),
);

export const nameOf = ({ fault, victim, phase }: Case): string => `${fault} / ${victim} / ${phase}`;

/** The few that every `npm test` runs: each fault, victim and phase at least once. */
const BRIEF: ReadonlySet<string> = new Set([
  'kill / rank 0 / step',
  'kill / coordinator / step',
  'kill / rank 1 / start',
  'freeze / rank 1 / load',
  'freeze / rank 0 / recovery',
  'cache-gone / both ranks / idle',
  'runtime-gone / rank 1 / step',
  'kill / rank 1 / drain',
]);

export const isBrief = (one: Case): boolean => BRIEF.has(nameOf(one));
