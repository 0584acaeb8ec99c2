/** `tandem launch`: starts the workers, serves pictures over HTTP, and stays. */
import { type Command, InvalidArgumentError } from 'commander';
import { formatBytes } from '../../config/bytes.js';
import { type ClusterConfig, readClusterConfig } from '../../config/index.js';
import { followPlan } from '../../generate/follow-plan.js';
import { reportWorkers } from '../../generate/generate.js';
import { planDenoiser } from '../../generate/picture.js';
import { joinHosts } from '../../hosts/index.js';
import type { Ready } from '../../server/index.js';
import type { Dims } from '../../shards/dims.js';
import { type CommonOptions, type ProcessContext, withContext } from '../context.js';
import { dimOption, jsonOption, nonNegativeInteger, traceOption, verboseOption } from '../options.js';
import { formatMs, formatTable } from '../text-table.js';

interface LaunchOptions extends CommonOptions {
  readonly dim: Dims;
  readonly port?: number;
}

const HELP = `
The workers load the config's default picture size. The server answers at http://127.0.0.1:8080 unless the config's
"server:" says otherwise: a page at /, POST /v1/images/generations as the OpenAI API has it, /ready, /health, /metrics;
/openapi.json describes all. Once it is ready, its log goes to standard error, a JSON object a line.

SIGHUP reads the config again and serves what it says now, another version of the model for instance, without failing a
request: it is loaded beside the old one, which stays where loading fails. /health and the log tell what came of it.

Ctrl-C stops everything at once. SIGTERM lets requests finish first, for as long as server.drain_s says. If the workers
are lost for good, all stop and the exit status is 1. --json prints one object once the workers are ready.

Example:
  $ tandem launch configs/dual-cpu.yaml
  $ curl http://127.0.0.1:8080/v1/images/generations -H 'content-type: application/json' \\
      -d '{"prompt": "a red apple", "response_format": "url"}'`;

const portNumber = (text: string): number => {
  const port = nonNegativeInteger(text);
  if (port > 65_535) throw new InvalidArgumentError('Expected a port, 0 to 65535.');
  return port;
};

const launchText = ({ url, cluster, loadMs, model }: Ready): string =>
  [
    `Ready after ${formatMs(loadMs)}: ${model.name} on ${cluster.workers.length} workers at ${url} (Ctrl-C stops them).`,
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

const readyReport = ({ url, cluster, loadMs, shards }: Ready) => ({
  ready: true,
  url,
  world_size: cluster.workers.length,
  load_ms: loadMs,
  shards: shards.directory,
  workers: reportWorkers(cluster),
});

const withPort = (config: ClusterConfig, port: number | undefined): ClusterConfig =>
  port === undefined ? config : { ...config, server: { ...config.server, port } };

/**
 * Calls `action` at every SIGHUP, as servers do to take up a changed config: a file then always says what runs, also after the
 * next start. Windows has no such signal.
 * @returns ends that
 */
const onHangUp = (action: () => void): (() => void) => {
  if (process.platform === 'win32') return () => undefined;
  process.on('SIGHUP', action);
  return () => void process.off('SIGHUP', action);
};

export const addLaunch = (program: Command, outer: ProcessContext): void => {
  program
    .command('launch <FILE>')
    .description('Start the workers of a cluster config and serve pictures over HTTP until stopped.')
    .option('--port <n>', "instead of the config's server.port; 0 takes a free one", portNumber)
    .addOption(dimOption())
    .addOption(traceOption())
    .addOption(jsonOption())
    .addOption(verboseOption())
    .addHelpText('after', HELP)
    .action((file: string, options: LaunchOptions) =>
      withContext(outer, options, async (context) => {
        // Only this command needs an HTTP server; the others start faster without.
        const { createServerLog, serve } = await import('../../server/index.js');
        const written = async () => withPort(await readClusterConfig(file), options.port);
        const joined = await joinHosts(await written(), context);
        const read = async () => {
          const asked = joined.apply(await written());
          if (asked.parallel !== 'auto') return asked;
          return followPlan(asked, (one) => planDenoiser(one, options.dim), context);
        };
        const config = await read().catch(async (error: unknown) => {
          await joined.close();
          throw error;
        });
        outer.allowStop(config.server.drainMs);
        const { log, dropped, release } = createServerLog(process.stderr, options.verbose ? 'debug' : 'info');
        if (options.verbose) release();
        let swap = (): void => log.warn('SIGHUP came before the first version was ready');
        const stopListening = onHangUp(() => swap());
        try {
          await serve({
            ...context,
            config,
            dims: options.dim,
            log,
            droppedLogLines: dropped,
            onReady: (ready) => {
              swap = () => void ready.swap(read);
              release();
              context.print(readyReport(ready), () => launchText(ready));
            },
          });
        } finally {
          stopListening();
          await joined.close();
        }
      }),
    );
};
