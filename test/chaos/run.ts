/** Does harm as a row of the table says, with real processes, and looks at what comes of it. */
import { type ChildProcess, execFileSync, spawn } from 'node:child_process';
import { once } from 'node:events';
import { cp, open, readdir, readFile, rm } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { createInterface } from 'node:readline';
import { setTimeout as delay } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import { fixture, isAlive, withDirectory } from '../cluster/helpers.js';
import { type Case, type Fault, nameOf, outcomeOf, type Victim } from './table.js';

const PROGRAM = fileURLToPath(new URL('./coordinator.mjs', import.meta.url));
const CLOCK = new URL('./clock.mjs', import.meta.url).href;
const ITERATIONS = 20_000;
/** Longest wait for anything: nothing here takes a tenth of it, but the machine may be busy. */
const LIMIT_MS = 40_000;
const FROZEN_COORDINATOR_MS = 700;
const STRIKE_AFTER_MS = { start: 0, load: 250, idle: 0, step: 60, recovery: 0, drain: 0 } as const;

interface Event {
  readonly kind: 'ready' | 'state' | 'step' | 'error' | 'closed' | 'notice';
  readonly at: number;
  readonly state?: string;
  readonly code?: string;
  readonly message?: string;
  readonly digests?: readonly string[];
}

interface Scene {
  readonly original: string;
  readonly shardDirectory: string;
  readonly directory: string;
}

/** A coordinator in a process of its own, and what it has said. */
class Coordinator {
  readonly child: ChildProcess;
  readonly events: Event[] = [];
  readonly exited: Promise<unknown>;
  #stderr = '';

  constructor(scene: Scene) {
    this.child = spawn(process.execPath, [PROGRAM, JSON.stringify(scene)], {
      stdio: ['pipe', 'pipe', 'pipe'],
      // Workers have it from their coordinator.
      env: { ...process.env, NODE_OPTIONS: `--import ${CLOCK}` },
    });
    this.exited = once(this.child, 'exit');
    this.child.stdin?.on('error', () => undefined);
    this.child.stderr?.on('data', (text) => {
      this.#stderr += String(text);
    });
    if (this.child.stdout)
      createInterface({ input: this.child.stdout }).on('line', (line) => this.events.push(JSON.parse(line)));
  }

  say(line: string): void {
    this.child.stdin?.write(`${line}\n`);
  }

  /** The first event after the time `since` that is meant; undefined once the process has ended without one. */
  async event(isMeant: (event: Event) => boolean, since = 0): Promise<Event | undefined> {
    const end = performance.now() + LIMIT_MS;
    for (;;) {
      const found = this.events.find((event) => event.at >= since && isMeant(event));
      if (found !== undefined || this.child.exitCode !== null || this.child.signalCode !== null) return found;
      if (performance.now() > end) throw new Error(`Nothing within ${LIMIT_MS} ms. ${this.story()}`);
      await delay(5);
    }
  }

  story(): string {
    return `It said: ${JSON.stringify(this.events)} ${this.#stderr}`;
  }
}

type Registered = { readonly rank: number; readonly process: { readonly pid: number } };

/** Worker processes by rank, as the runtime directory lists them; waits until all are there. */
const workersOf = async ({ directory }: Scene, withinMs = LIMIT_MS): Promise<readonly number[]> => {
  const end = performance.now() + withinMs;
  while (performance.now() < end) {
    const [key = ''] = await readdir(directory).catch(() => []);
    const text = await readFile(join(directory, key, 'workers.json'), 'utf8').catch(() => '');
    const workers: readonly Registered[] = text === '' ? [] : JSON.parse(text).workers;
    if (workers.length === 2) return workers.toSorted((a, b) => a.rank - b.rank).map((worker) => worker.process.pid);
    await delay(2);
  }
  throw new Error('No workers were registered.');
};

const signal = (pid: number, name: NodeJS.Signals): void => {
  try {
    process.kill(pid, name);
  } catch {
    // It has ended already, as those do that are about to.
  }
};

const pidsOf = (victim: Victim, workers: readonly number[], coordinator: number): readonly number[] =>
  ({
    'rank 0': workers.slice(0, 1),
    'rank 1': workers.slice(1, 2),
    'both ranks': workers,
    coordinator: [coordinator],
  })[victim];

const SIGNALS = {
  kill: 'SIGKILL',
  freeze: 'SIGSTOP',
  clock: 'SIGUSR2',
  'cache-gone': 'SIGKILL',
  'runtime-gone': 'SIGKILL',
  'disk-full': 'SIGKILL',
} as const satisfies Readonly<Record<Exclude<Fault, 'block'>, NodeJS.Signals>>;

/** Leaves no byte free where shards and runtime directory are; a file system of its own, or the machine's own disk would fill. */
const fillDisk = async (root: string): Promise<void> => {
  const file = await open(join(root, 'full'), 'w');
  try {
    for (let bytes = 1 << 20; bytes >= 1; )
      await file.write(Buffer.alloc(bytes)).catch(() => {
        bytes >>= 1;
      });
  } finally {
    await file.close();
  }
};

const DISK_BYTES = 16 << 20;

/** Whether this user may mount. */
export const hasDisks = process.platform === 'linux' && process.getuid?.() === 0;

/** Runs `work` with a directory on a small disk of its own where it is to be filled. */
const withScene = <T>(fault: Fault, work: (root: string) => Promise<T>): Promise<T> =>
  withDirectory(async (root) => {
    if (fault !== 'disk-full') return work(root);
    execFileSync('mount', ['-t', 'tmpfs', '-o', `size=${DISK_BYTES}`, 'tmpfs', root]);
    try {
      return await work(root);
    } finally {
      execFileSync('umount', ['-l', root]);
    }
  });

const remove = async (fault: Fault, { shardDirectory, directory }: Scene): Promise<void> => {
  if (fault === 'cache-gone') await rm(shardDirectory, { recursive: true, force: true });
  if (fault === 'disk-full') await fillDisk(dirname(directory));
  if (fault === 'runtime-gone') await rm(directory, { recursive: true, force: true });
};

export interface Report {
  /** From the fault to the first word of it, in ms; undefined where nobody is to say one. */
  readonly detectionMs: number | undefined;
}

const check = (holds: boolean, what: string, coordinator: Coordinator): void => {
  if (!holds) throw new Error(`${what} ${coordinator.story()}`);
};

/** Whatever was started is to be gone at the end. */
class Census {
  readonly #pids = new Set<number>();

  add(pids: readonly number[]): void {
    for (const pid of pids) this.#pids.add(pid);
  }

  /** Whether any is left after a time in which all should have ended. */
  async someSurvive(): Promise<boolean> {
    const end = performance.now() + LIMIT_MS / 4;
    while ([...this.#pids].some(isAlive) && performance.now() < end) await delay(10);
    return [...this.#pids].some(isAlive);
  }

  async end(): Promise<void> {
    for (const pid of this.#pids) if (isAlive(pid)) signal(pid, 'SIGKILL');
    await this.someSurvive();
  }
}

/** Brings a coordinator to where the phase begins. */
const reach = async (
  { phase, victim }: Case,
  coordinator: Coordinator,
  scene: Scene,
  census: Census,
): Promise<void> => {
  census.add(await workersOf(scene));
  if (phase === 'start' || phase === 'load') return;
  check((await coordinator.event(({ kind }) => kind === 'ready')) !== undefined, 'It never was ready.', coordinator);
  if (phase === 'step' || phase === 'recovery') coordinator.say(`step ${ITERATIONS}`);
  if (phase === 'drain') coordinator.say('close');
  if (phase !== 'recovery') return;
  await delay(STRIKE_AFTER_MS.step);
  const workers = await workersOf(scene);
  signal(workers[victim === 'rank 0' ? 1 : 0] ?? 0, 'SIGKILL');
  await coordinator.event(({ state }) => state === 'recovering');
  // From then on a new worker is registered in place of the one that was lost.
  for (let now = workers; now.join() === workers.join(); now = await workersOf(scene)) await delay(5);
};

const strike = async (one: Case, coordinator: Coordinator, scene: Scene, census: Census): Promise<number> => {
  const workers = await workersOf(scene, LIMIT_MS / 10).catch(() => []);
  census.add(workers);
  await delay(STRIKE_AFTER_MS[one.phase]);
  await remove(one.fault, scene);
  const at = performance.timeOrigin + performance.now();
  const pids = pidsOf(one.victim, workers, coordinator.child.pid ?? 0);
  if (one.fault === 'block') coordinator.say(`block ${FROZEN_COORDINATOR_MS}`);
  else for (const pid of pids) signal(pid, SIGNALS[one.fault]);
  if (one.victim === 'coordinator' && one.fault === 'freeze') {
    await delay(FROZEN_COORDINATOR_MS);
    for (const pid of pids) signal(pid, 'SIGCONT');
  }
  return at;
};

const stepsAs = async (coordinator: Coordinator, digests: readonly string[]): Promise<void> => {
  const before = coordinator.events.filter(({ kind }) => kind === 'step').length;
  coordinator.say(`step ${ITERATIONS}`);
  await coordinator.event(() => coordinator.events.filter(({ kind }) => kind === 'step').length > before);
  const steps = coordinator.events.filter(({ kind }) => kind === 'step');
  check(steps.length > before, 'It never finished a step.', coordinator);
  for (const step of steps) check(step.digests?.join() === digests.join(), 'A step had other outputs.', coordinator);
};

const closes = async (coordinator: Coordinator): Promise<void> => {
  coordinator.say('close');
  await coordinator.event(({ kind }) => kind === 'closed');
  await coordinator.exited;
};

/** The first word of a loss is a notice; a cluster that recovers already says no more of it than that. */
const noteworthy = ({ kind }: Event): boolean => kind === 'error' || kind === 'notice';

/** Looks at what comes of it. @returns when it was noticed */
const settle = async (
  one: Case,
  coordinator: Coordinator,
  scene: Scene,
  digests: readonly string[],
  struckAt: number,
): Promise<number | undefined> => {
  const outcome = outcomeOf(one);
  switch (outcome) {
    case 'refused': {
      const said = await coordinator.event(({ kind }) => kind === 'error' || kind === 'ready', struckAt);
      // A rank that is lost after its coordinator has the last word of it is lost by a cluster that is ready.
      if (said?.kind === 'ready') await stepsAs(coordinator, digests).then(() => closes(coordinator));
      else await coordinator.exited;
      return said?.kind === 'error' ? said.at : undefined;
    }
    case 'recovers': {
      if (one.phase === 'step' || one.phase === 'recovery') await coordinator.event(({ kind }) => kind === 'step');
      const isSilent = one.victim === 'coordinator' || one.fault === 'clock';
      const noticed = isSilent ? undefined : await coordinator.event(noteworthy, struckAt);
      await coordinator.event(({ kind }) => kind === 'ready');
      await stepsAs(coordinator, digests);
      await closes(coordinator);
      return noticed?.at;
    }
    case 'ends':
      await coordinator.exited;
      return undefined;
    case 'taken over': {
      await coordinator.exited;
      const next = new Coordinator(scene);
      try {
        await stepsAs(next, digests);
        await closes(next);
      } finally {
        next.child.kill('SIGKILL');
      }
      return undefined;
    }
    default:
      return outcome satisfies never;
  }
};

/**
 * Runs one row.
 * @param digests of an undisturbed step
 * @throws Error with all that the coordinator said, where anything else comes of it than the table says
 */
export const runCase = (one: Case, digests: readonly string[]): Promise<Report> =>
  withScene(one.fault, async (root) => {
    const scene = { original: fixture('slow'), shardDirectory: join(root, 'shards'), directory: join(root, 'run') };
    await cp(scene.original, scene.shardDirectory, { recursive: true });
    const census = new Census();
    const coordinator = new Coordinator(scene);
    census.add([coordinator.child.pid ?? 0]);
    try {
      await reach(one, coordinator, scene, census);
      const struckAt = await strike(one, coordinator, scene, census);
      // Somebody makes room.
      if (one.fault === 'disk-full' && outcomeOf(one) === 'taken over') await rm(join(root, 'full'));
      if (one.fault === 'cache-gone' && outcomeOf(one) === 'taken over')
        await cp(scene.original, scene.shardDirectory, { recursive: true });
      const noticedAt = await settle(one, coordinator, scene, digests, struckAt);
      const unforeseen = coordinator.events.filter(({ code }) => code === 'UNFORESEEN');
      check(unforeseen.length === 0, 'It said what nobody foresaw.', coordinator);
      check(!(await census.someSurvive()), `${nameOf(one)} left processes.`, coordinator);
      return { detectionMs: noticedAt === undefined ? undefined : noticedAt - struckAt };
    } catch (error) {
      census.add(await workersOf(scene, 100).catch(() => []));
      coordinator.child.kill('SIGKILL');
      await census.end();
      throw error;
    } finally {
      coordinator.child.kill('SIGKILL');
    }
  });

/** The digests of a step that nobody disturbs. */
export const undisturbed = (): Promise<readonly string[]> =>
  withDirectory(async (root) => {
    const scene = { original: fixture('slow'), shardDirectory: fixture('slow'), directory: join(root, 'run') };
    const coordinator = new Coordinator(scene);
    try {
      coordinator.say(`step ${ITERATIONS}`);
      const step = await coordinator.event(({ kind }) => kind === 'step');
      await closes(coordinator);
      return step?.digests ?? [];
    } finally {
      coordinator.child.kill('SIGKILL');
    }
  });

/** Detection times by fault, for people. */
export class Detections {
  readonly #times = new Map<Fault, number[]>();
  readonly #runs = new Map<Fault, number>();

  add(fault: Fault, { detectionMs }: Report): void {
    this.#runs.set(fault, (this.#runs.get(fault) ?? 0) + 1);
    const times = this.#times.get(fault) ?? [];
    this.#times.set(fault, detectionMs === undefined ? times : [...times, Math.round(detectionMs)]);
  }

  /** A row a fault: its runs that ended well, those in which a loss was to be noticed, and after how many ms it was. */
  table(): string {
    const rows = [...this.#times].map(([fault, all]) => {
      const times = all.toSorted((a, b) => a - b);
      const at = (share: number): number | string =>
        times[Math.min(times.length - 1, Math.floor(share * times.length))] ?? '-';
      return [fault, this.#runs.get(fault) ?? 0, times.length, at(0.5), at(0.99)];
    });
    const all = [['fault', 'runs', 'noticed', 'p50 ms', 'p99 ms'], ...rows];
    return all.map((row) => row.map((cell) => String(cell).padEnd(13)).join('')).join('\n');
  }
}
