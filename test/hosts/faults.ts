/** What may happen to a network and its hosts while a picture is under way: how soon it is seen, and what becomes of the picture. */
import { setTimeout as delay } from 'node:timers/promises';
import type { ServedHosts } from './served-hosts.js';

export interface Fault {
  readonly name: string;
  readonly begin: (hosts: ServedHosts) => Promise<void> | void;
  /** Makes good what was broken, where the picture needs that. */
  readonly mend?: (hosts: ServedHosts) => Promise<void> | void;
  /** What the leader says once it has seen it; absent where nobody is lost. */
  readonly seen?: RegExp;
  readonly withinMs?: number;
}

const LOST = /Host b is lost/g;
/** A host that is gone is seen by its silence. */
const SILENCE_MS = 3000;

export const FAULTS: readonly Fault[] = [
  {
    name: 'a worker of host b is killed',
    begin: async (hosts) => void process.kill(await hosts.pidOf(1), 'SIGKILL'),
    seen: /The worker of rank 1 was killed by SIGKILL/g,
    withinMs: 200,
  },
  {
    name: 'host b is frozen',
    begin: (hosts) => hosts.signalHost(1, 'SIGSTOP'),
    mend: (hosts) => hosts.signalHost(1, 'SIGCONT'),
    seen: LOST,
    withinMs: SILENCE_MS,
  },
  {
    name: 'the cable of host b is cut',
    begin: ({ network }) => network.setLink(1, 'down'),
    mend: ({ network }) => network.setLink(1, 'up'),
    seen: LOST,
    withinMs: SILENCE_MS,
  },
  {
    name: 'nothing comes from host b to the leader',
    begin: ({ network }) => network.cut(1, 0),
    mend: ({ network }) => network.heal(1, 0),
    seen: LOST,
    withinMs: SILENCE_MS,
  },
  {
    name: 'nothing comes from the leader to host b',
    begin: ({ network }) => network.cut(0, 1),
    mend: ({ network }) => network.heal(0, 1),
    seen: LOST,
    withinMs: SILENCE_MS,
  },
  {
    name: 'the link of host b has 10 Mbit/s',
    begin: ({ network }) => network.limit(1, '10mbit'),
    mend: async ({ network }) => {
      await delay(5000);
      network.unlimit(1);
    },
  },
  {
    name: 'host b is killed with all its processes, and started again',
    begin: (hosts) => hosts.signalHost(1, 'SIGKILL'),
    mend: (hosts) => void hosts.startHost(1, 'b'),
    seen: LOST,
    withinMs: SILENCE_MS,
  },
];

export interface Outcome {
  readonly name: string;
  /** ms; undefined where nothing was to be seen */
  readonly seenMs: number | undefined;
  readonly pictureMs: number;
  readonly isSame: boolean;
}

const count = (text: string, pattern: RegExp): number => [...text.matchAll(pattern)].length;

const untilSeen = async ({ leader }: ServedHosts, pattern: RegExp, before: number): Promise<void> => {
  for (const end = performance.now() + 20_000; count(leader.text(), pattern) <= before; await delay(5))
    if (performance.now() > end) throw new Error(`Never seen: ${pattern}\n${leader.text()}`);
};

/** @param beginAfterMs into the picture */
export const tryFault = async (
  hosts: ServedHosts,
  { name, begin, mend, seen }: Fault,
  {
    steps,
    expected,
    beginAfterMs,
  }: { readonly steps: number; readonly expected: string; readonly beginAfterMs: number },
): Promise<Outcome> => {
  const started = performance.now();
  const picture = hosts.picture(steps);
  picture.catch(() => undefined);
  await delay(beginAfterMs);
  const before = seen === undefined ? 0 : count(hosts.leader.text(), seen);
  await begin(hosts);
  const begun = performance.now();
  if (seen !== undefined) await untilSeen(hosts, seen, before);
  const seenMs = seen === undefined ? undefined : performance.now() - begun;
  await mend?.(hosts);
  const isSame = (await picture) === expected;
  hosts.note();
  return { name, seenMs, pictureMs: performance.now() - started, isSame };
};
