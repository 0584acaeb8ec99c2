/** A Slurm of two nodes on this machine: munge, a controller and two node daemons of its own, in a directory of their own. */

import { randomBytes } from 'node:crypto';
import { mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { hostname, tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { freePort } from '../server/helpers.js';
import { succeed } from './tools.js';

const NODES = ['node0', 'node1'] as const;
const UP_MS = 30_000;
const LOOK_MS = 250;

export interface Slurm {
  /** Where jobs run: nothing of the machine's own Slurm, if it has one. */
  readonly directory: string;
  readonly variables: Readonly<Record<string, string>>;
  /** Standard output of one of Slurm's commands. */
  command(name: string, ...args: readonly string[]): Promise<string>;
  stop(): Promise<void>;
}

const configText = async (directory: string): Promise<string> => {
  const nodes = await Promise.all(
    NODES.map(
      async (name) => `NodeName=${name} NodeHostname=${hostname()} NodeAddr=127.0.0.1 Port=${await freePort()} CPUs=1`,
    ),
  );
  return [
    'ClusterName=tandem',
    `SlurmctldHost=${hostname()}(127.0.0.1)`,
    `SlurmctldPort=${await freePort()}`,
    'SlurmUser=root',
    'SlurmdUser=root',
    'AuthType=auth/munge',
    `AuthInfo=socket=${directory}/munge/socket`,
    'CredType=cred/munge',
    `StateSaveLocation=${directory}/state`,
    `SlurmdSpoolDir=${directory}/spool-%n`,
    `SlurmctldPidFile=${directory}/controller.pid`,
    `SlurmdPidFile=${directory}/%n.pid`,
    `SlurmctldLogFile=${directory}/controller.log`,
    `SlurmdLogFile=${directory}/%n.log`,
    'ProctrackType=proctrack/linuxproc',
    'TaskPlugin=task/none',
    'SelectType=select/cons_tres',
    'SelectTypeParameters=CR_CPU',
    'ReturnToService=2',
    'KillWait=20',
    ...nodes,
    `PartitionName=all Nodes=${NODES.join(',')} Default=YES State=UP`,
    '',
  ].join('\n');
};

const startMunge = async (directory: string): Promise<void> => {
  const place = join(directory, 'munge');
  mkdirSync(place, { mode: 0o755 });
  writeFileSync(join(place, 'key'), randomBytes(128), { mode: 0o400 });
  const files = ['key-file=key', 'socket=socket', 'pid-file=../munge.pid', 'log-file=log', 'seed-file=seed'];
  await succeed('munged', ['--force', ...files.map((file) => `--${file.replace('=', `=${place}/`)}`)]);
};

const untilIdle = async ({ command, directory }: Slurm): Promise<void> => {
  const end = Date.now() + UP_MS;
  while ((await command('sinfo', '--noheader', '--format=%T %D')) !== 'idle 2\n') {
    if (Date.now() > end)
      throw new Error(`Slurm's nodes are not up:\n${readFileSync(`${directory}/controller.log`, 'utf8')}`);
    await delay(LOOK_MS);
  }
};

const isRunning = (pid: number): boolean => {
  try {
    process.kill(pid, 0);
    return true;
  } catch {
    return false;
  }
};

const end = async (directory: string, name: string): Promise<void> => {
  try {
    const pid = Number(readFileSync(join(directory, `${name}.pid`), 'utf8'));
    process.kill(pid, 'SIGTERM');
    while (isRunning(pid)) await delay(LOOK_MS);
  } catch {
    // It never started.
  }
};

/** @throws where one of the daemons does not start; what did is ended */
export const startSlurm = async (): Promise<Slurm> => {
  const directory = mkdtempSync(join(tmpdir(), 'tandem-slurm-'));
  mkdirSync(join(directory, 'state'));
  const file = join(directory, 'slurm.conf');
  const variables = { SLURM_CONF: file };
  const slurm: Slurm = {
    directory,
    variables,
    command: (name, ...args) => succeed(name, args, { variables, cwd: directory }),
    stop: async () => {
      for (const name of [...NODES, 'controller', 'munge']) await end(directory, name);
      rmSync(directory, { recursive: true, force: true });
    },
  };
  try {
    writeFileSync(file, await configText(directory));
    await startMunge(directory);
    await slurm.command('slurmctld', '-f', file);
    for (const name of NODES) await slurm.command('slurmd', '-f', file, '-N', name);
    await untilIdle(slurm);
    return slurm;
  } catch (error) {
    await slurm.stop();
    throw error;
  }
};
