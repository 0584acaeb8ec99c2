/** `tandem launch`: starts the workers and stays. */
import type { Command } from 'commander';
import { TandemError } from '../../../partition/errors.js';
import type { Cluster } from '../../cluster/index.js';
import { formatBytes } from '../../config/bytes.js';
import { readClusterConfig } from '../../config/index.js';
import { reportWorkers } from '../../generate/generate.js';
import { cancelled } from '../../hooks.js';
import { type Launched, launch } from '../../launch.js';
import type { Dims } from '../../shards/dims.js';
import { closing } from '../../start-cluster.js';
import { type CommonOptions, type ProcessContext, withContext } from '../context.js';
import { dimOption, jsonOption, verboseOption } from '../options.js';
import { formatMs, formatTable } from '../table.js';

interface LaunchOptions extends CommonOptions {
  readonly dim: Dims;
}

const HELP = `
The workers load the config's default picture size. Ctrl-C stops all of them; if one is lost, all stop and the exit
status is 1. --json prints one object once the workers are ready.

Example:
  $ tandem launch configs/dual-cpu.yaml`;

const launchText = ({ cluster, loadMs, shards }: Launched): string =>
  [
    `Ready after ${formatMs(loadMs)}: ${shards.manifest.model.name} on ${cluster.workers.length} workers. Ctrl-C stops them.`,
    formatTable(
      [
        { title: 'rank', align: 'right' },
        { title: 'pid', align: 'right' },
        { title: 'weights', align: 'right' },
        { title: 'private memory', align: 'right' },
      ],
      cluster.workers.map((worker) => [
        String(worker.rank),
        String(worker.pid),
        formatBytes(worker.weight_bytes),
        formatBytes(worker.memory.private_bytes),
      ]),
    ),
  ].join('\n');

/** Waits until the caller cancels (then throws its reason) or the cluster fails (then throws its error). */
const stay = (cluster: Cluster, signal: AbortSignal): Promise<never> =>
  new Promise((_, reject) => {
    // Nothing else may be left to wait for; without a timer Node would end the process.
    const keepAlive = setInterval(() => undefined, 2 ** 30);
    const end = (error: Error): void => {
      clearInterval(keepAlive);
      reject(error);
    };
    signal.addEventListener('abort', () => end(signal.reason instanceof TandemError ? signal.reason : cancelled()), {
      once: true,
    });
    cluster.onFailure(end);
  });

export const addLaunch = (program: Command, outer: ProcessContext): void => {
  program
    .command('launch <FILE>')
    .description('Start the workers of a cluster config, say when they are ready, and stay.')
    .addOption(dimOption())
    .addOption(jsonOption())
    .addOption(verboseOption())
    .addHelpText('after', HELP)
    .action((file: string, options: LaunchOptions) =>
      withContext(outer, options, async (context) => {
        const launched = await launch({ ...context, config: await readClusterConfig(file), dims: options.dim });
        const { cluster, loadMs, shards } = launched;
        await closing(
          context.signal,
          () => cluster.close(),
          async () => {
            const report = {
              ready: true,
              world_size: cluster.workers.length,
              load_ms: loadMs,
              shards: shards.directory,
              workers: reportWorkers(cluster),
            };
            context.print(report, () => launchText(launched));
            await stay(cluster, context.signal);
          },
        );
      }),
    );
};
