/** What is done to whom, and when. Everything that tests do, and `npm run chaos` at random, is a row of this. */

export const FAULTS = ['kill', 'freeze', 'cache-gone', 'runtime-gone', 'disk-full', 'block', 'clock'] as const;
/**
 * - `cache-gone`, `runtime-gone`, `disk-full` do no harm by themselves: the victim is killed as well
 * - `block`: the coordinator's event loop does nothing for a while; workers have no way in for that
 * - `clock`: the victim's clock is turned by a day
 */
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

/** Faults after which nobody is lost. */
const BORNE: ReadonlySet<Fault> = new Set(['freeze', 'block']);

export const outcomeOf = ({ fault, victim, phase }: Case): Outcome => {
  if (fault === 'clock') return phase === 'drain' ? 'ends' : 'recovers';
  if (phase === 'drain') return victim === 'coordinator' && !BORNE.has(fault) ? 'taken over' : 'ends';
  if (victim === 'coordinator') return BORNE.has(fault) ? 'recovers' : 'taken over';
  return phase === 'start' || phase === 'load' ? 'refused' : 'recovers';
};

export const CASES: readonly Case[] = FAULTS.flatMap((fault) =>
  VICTIMS.flatMap((victim) => PHASES.map((phase) => ({ fault, victim, phase }))),
).filter(({ fault, victim, phase }) => {
  // Its event loop is reached through its standard input, which it reads once it is ready.
  if (fault === 'block') return victim === 'coordinator' && phase !== 'start' && phase !== 'load';
  // It is turned through a signal, which a process that has only begun would die of.
  if (fault === 'clock') return phase === 'idle' || phase === 'step' || phase === 'drain';
  return true;
});

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
  'block / coordinator / step',
  'clock / rank 0 / step',
  'disk-full / rank 1 / idle',
]);

export const isBrief = (one: Case): boolean => BRIEF.has(nameOf(one));
