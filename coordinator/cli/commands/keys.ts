/** `tandem keys`: the keys by which hosts of a cluster know each other. */
import { resolve } from 'node:path';
import type { Command } from 'commander';
import { makeKeyFiles } from '../../hosts/index.js';
import { type CommonOptions, type ProcessContext, withContext } from '../context.js';
import { addText, jsonOption, verboseOption } from '../options.js';

interface KeysOptions extends CommonOptions {
  readonly host?: readonly string[];
}

const HELP = `
Writes leader.secret, leader.public, hosts.public and a secret for each host; what is there stays. The leader needs leader.secret and
hosts.public, a host its own secret and leader.public. Nobody else may read a secret.

Example:
  $ tandem keys keys --host b --host c`;

export const addKeys = (program: Command, outer: ProcessContext): void => {
  program
    .command('keys [DIR]')
    .description('Make the keys by which the hosts of a cluster know each other.')
    .option('--host <name>', 'a further host; repeat it for each (default: one named "worker")', addText)
    .addOption(jsonOption())
    .addOption(verboseOption())
    .addHelpText('after', HELP)
    .action((directory: string | undefined, options: KeysOptions) =>
      withContext(outer, options, async (context) => {
        const made = makeKeyFiles(resolve(directory ?? 'keys'), options.host ?? ['worker']);
        context.print({ made }, () => (made.length === 0 ? 'All keys are there.' : `Wrote ${made.join('\n      ')}`));
      }),
    );
};
