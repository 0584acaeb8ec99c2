/** `tandem worker`: a further host of a cluster, until it is stopped. */
import { isIP } from 'node:net';
import { join, resolve } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { type Command, InvalidArgumentError } from 'commander';
import { userCache } from '../../../common/remembered.js';
import { launcherGroupIn } from '../../config/index.js';
import { Agent, addressTowards } from '../../hosts/index.js';
import { type CommonOptions, type ProcessContext, withContext } from '../context.js';
import { jsonOption, nonNegativeInteger, nonNegativeNumber, usageError, verboseOption } from '../options.js';
import { StatusFile } from '../status-file.js';

interface WorkerOptions extends CommonOptions {
  readonly join?: string;
  readonly keys: string;
  readonly name: string;
  readonly index?: number;
  readonly address?: string;
  readonly cache?: string;
  readonly model?: string;
  readonly once?: boolean;
  readonly status?: string;
  readonly waitS: number;
}

const HELP = `
Joins a leader ("tandem launch" or "tandem generate" with hosts in its config), gets the files of its own ranks, and runs their
workers. When the leader is lost, it keeps them and waits for the next one. Options may stand in the environment: TANDEM_JOIN,
TANDEM_KEYS, TANDEM_HOST_NAME, TANDEM_HOST_INDEX, TANDEM_ADDRESS, TANDEM_MODEL, TANDEM_STATUS, TANDEM_WAIT_S. In a LeaderWorkerSet
or a Slurm job, leader and index are known.

Example:
  $ tandem worker --join tcp://10.0.0.1:7070 --keys keys --name b`;

const JOIN_PORT = 7070;
const LOOK_AGAIN_MS = 250;

const endpoint = (text: string): string => {
  if (/^tcp:\/\/(\[[0-9a-f:.]+\]|[\w.-]+):\d{1,5}$/i.test(text)) return text;
  throw new InvalidArgumentError('Expected tcp://HOST:PORT, such as tcp://10.0.0.1:7070.');
};

const ipAddress = (text: string): string => {
  if (isIP(text) > 0) return text;
  throw new InvalidArgumentError('Expected an IP address of this host.');
};

const leaderOf = ({ join: given }: WorkerOptions): string => {
  const { leader } = launcherGroupIn(process.env);
  if (given !== undefined) return given;
  if (leader !== undefined) return endpoint(`tcp://${leader}:${JOIN_PORT}`);
  throw usageError(
    'Expected --join tcp://LEADER:7070, or the environment of a LeaderWorkerSet or a Slurm job; found none.',
  );
};

const indexOf = ({ index: given }: WorkerOptions): number | undefined => {
  const index = given ?? launcherGroupIn(process.env).index;
  if (index !== 0) return index;
  throw usageError('Expected a number from 1 on, as 0 is the leader: run "tandem launch" there.');
};

/** A leader that does not listen yet is waited for. */
const ownAddress = async (leader: string, { address, waitS }: WorkerOptions, signal: AbortSignal): Promise<string> => {
  const end = waitS === 0 ? Number.POSITIVE_INFINITY : performance.now() + waitS * 1000;
  for (;;) {
    const found = address ?? (await addressTowards(leader));
    if (found !== undefined || performance.now() > end) return found ?? '127.0.0.1';
    await delay(LOOK_AGAIN_MS, undefined, { signal });
  }
};

export const addWorker = (program: Command, outer: ProcessContext): void => {
  const { env } = process;
  program
    .command('worker')
    .description('Join a leader as a further host, and run its workers until stopped.')
    .option('--join <endpoint>', "the leader's join port", endpoint, env.TANDEM_JOIN)
    .option('--keys <dir>', "directory with this host's secret and leader.public", env.TANDEM_KEYS ?? 'keys')
    .option('--name <name>', "which secret: this host's name", env.TANDEM_HOST_NAME ?? 'worker')
    .option(
      '--index <n>',
      'number of this host where hosts are numbered',
      nonNegativeInteger,
      numberIn(env.TANDEM_HOST_INDEX),
    )
    .option('--address <ip>', 'address by which others reach this host', ipAddress, env.TANDEM_ADDRESS)
    .option('--cache <dir>', "where received files are kept (default: the user's cache)")
    .option('--model <name>', 'serve this model only', env.TANDEM_MODEL)
    .option('--once', 'end with the leader instead of waiting for the next one')
    .option('--status <file>', 'write the state there, for probes', env.TANDEM_STATUS)
    .option(
      '--wait-s <n>',
      'how long to look for a leader; 0: for ever',
      nonNegativeNumber,
      Number(env.TANDEM_WAIT_S ?? 600),
    )
    .addOption(jsonOption())
    .addOption(verboseOption())
    .addHelpText('after', HELP)
    .action((options: WorkerOptions) =>
      withContext(outer, options, async (context) => {
        const [leader, index, status] = [leaderOf(options), indexOf(options), new StatusFile(options.status)];
        status.tell('waiting');
        const { name, model, once = false, waitS, cache } = options;
        const agent = await Agent.open({
          endpoint: leader,
          keys: resolve(options.keys),
          name,
          address: await ownAddress(leader, options, context.signal),
          cache: cache === undefined ? join(userCache()) : resolve(cache),
          once,
          waitMs: waitS * 1000,
          onNotice: context.onNotice,
          onState: (state) => status.tell(state),
          signal: context.signal,
          ...(index === undefined ? {} : { index }),
          ...(model === undefined ? {} : { model }),
        });
        await agent.serve().finally(() => status.remove());
      }),
    );
};

const numberIn = (text: string | undefined): number | undefined => (text === undefined ? undefined : Number(text));
