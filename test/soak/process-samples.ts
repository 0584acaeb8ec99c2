/** What the system says of a running server's processes: memory of their own, open descriptors, and how many there are. Linux only. */
import { readdirSync, readFileSync } from 'node:fs';
import { setTimeout as delay } from 'node:timers/promises';
import type { Timed } from '../support/time-chart.js';

export interface ProcessSample {
  readonly pid: number;
  /** MB (10^6 bytes) that are resident or swapped out and mapped from no file: `RssAnon`, `RssShmem`, `VmSwap` of proc(5). */
  readonly privateMB: number;
  readonly descriptors: number;
}

export interface Sample extends Timed {
  readonly processes: readonly ProcessSample[];
}

const FIELDS = ['RssAnon', 'RssShmem', 'VmSwap'];

const sampleProcess = (pid: number): ProcessSample | undefined => {
  try {
    const status = readFileSync(`/proc/${pid}/status`, 'utf8');
    const kilobytes = FIELDS.map((field) => Number(new RegExp(`^${field}:\\s+(\\d+) kB$`, 'm').exec(status)?.[1] ?? 0));
    const privateMB = (kilobytes.reduce((sum, value) => sum + value, 0) * 1024) / 1e6;
    return { pid, privateMB, descriptors: readdirSync(`/proc/${pid}/fd`).length };
  } catch {
    // It has ended since it was listed.
    return undefined;
  }
};

/** A process and all that it started and that runs. */
const treeOf = (pid: number): readonly number[] => {
  try {
    const children = readFileSync(`/proc/${pid}/task/${pid}/children`, 'utf8').split(' ').filter(Boolean).map(Number);
    return [pid, ...children.flatMap(treeOf)];
  } catch {
    return [];
  }
};

const EVERY_MS = 5000;

/** Looks at a process and its children every five seconds until told to stop; `onSample` has all so far. */
export const watchProcesses = async (
  pid: number,
  stop: AbortSignal,
  onSample: (samples: readonly Sample[]) => void,
): Promise<readonly Sample[]> => {
  const samples: Sample[] = [];
  const start = performance.now();
  while (!stop.aborted) {
    const processes = treeOf(pid).flatMap((one) => sampleProcess(one) ?? []);
    samples.push({ seconds: (performance.now() - start) / 1000, processes });
    onSample(samples);
    await delay(EVERY_MS, undefined, { signal: stop }).catch(() => undefined);
  }
  return samples;
};
