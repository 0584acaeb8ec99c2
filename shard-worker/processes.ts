/** Processes by pid and start time: a pid alone may have passed to another process by the time it is looked at. */
import { execFileSync } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { z } from 'zod';

/** A process, for as long as it lives. */
export interface ProcessIdentity {
  readonly pid: number;
  /** When it started, in the words of its system; only good for comparing. */
  readonly started: string;
}

export const processIdentity: z.ZodType<ProcessIdentity> = z.object({
  pid: z.number().int().positive(),
  started: z.string(),
});

// proc(5): the fields after the command's name, which is in parentheses and may hold anything.
const STATE_FIELD = 0;
const START_TIME_FIELD = 19;

const statFields = (pid: number): readonly string[] => {
  const stat = readFileSync(`/proc/${pid}/stat`, 'utf8');
  return stat.slice(stat.lastIndexOf(')') + 2).split(' ');
};

/** Whether a process was stopped (SIGSTOP) and not continued; false where the system does not tell. */
export const isStopped = (pid: number): boolean => {
  try {
    return process.platform === 'linux' && statFields(pid)[STATE_FIELD] === 'T';
  } catch {
    return false;
  }
};

const startOnLinux = (pid: number): string | undefined => {
  try {
    const fields = statFields(pid);
    // A zombie has ended; only its parent has not asked how yet.
    if (fields[STATE_FIELD] === 'Z' || fields[STATE_FIELD] === 'X') return undefined;
    const boot = readFileSync('/proc/sys/kernel/random/boot_id', 'utf8').trim();
    return `${boot}/${fields[START_TIME_FIELD]}`;
  } catch {
    return undefined;
  }
};

const startElsewhere = (pid: number): string | undefined => {
  try {
    const line = execFileSync('ps', ['-o', 'state=,lstart=', '-p', String(pid)], { encoding: 'utf8' }).trim();
    return line === '' || line.startsWith('Z') ? undefined : line.replace(/^\S+\s+/, '');
  } catch {
    return undefined;
  }
};

/** When the process with this pid started; undefined if there is none. */
export const processStart = (pid: number): string | undefined =>
  process.platform === 'linux' ? startOnLinux(pid) : startElsewhere(pid);

/** Whether it is still that process. */
export const isRunning = ({ pid, started }: ProcessIdentity): boolean => processStart(pid) === started;

/** This process. */
export const ownIdentity = (): ProcessIdentity => ({ pid: process.pid, started: processStart(process.pid) ?? '' });

/** Sends a signal, but never to another process that has taken over the pid. */
export const signalProcess = (identity: ProcessIdentity, signal: NodeJS.Signals): void => {
  if (!isRunning(identity)) return;
  try {
    process.kill(identity.pid, signal);
  } catch {
    // It ended in between.
  }
};
