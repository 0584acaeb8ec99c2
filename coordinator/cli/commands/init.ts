/** `tandem init`: a cluster config for this machine that runs at once. */
import { writeFile } from 'node:fs/promises';
import { dirname, relative, resolve } from 'node:path';
import type { Command } from 'commander';
import { TandemError } from '../../../common/errors.js';
import { firstConfig } from '../../devices/first-config.js';
import { listDevices } from '../../devices/index.js';
import { findDenoiserModel } from '../../shards/model.js';
import { type CommonOptions, type ProcessContext, withContext } from '../context.js';
import { jsonOption, verboseOption } from '../options.js';

interface InitOptions extends CommonOptions {
  readonly out: string;
}

const HELP = `
The devices are those that "tandem devices" finds to work. A file that is there is not written over.

Example:
  $ tandem init models/emoji-sd --out cluster.yaml
  $ tandem generate --config cluster.yaml --prompt "a red apple" --out apple.png`;

/** @throws TandemError `CONFIG_EXISTS`, `CONFIG_WRITE` */
const writeNew = (file: string, text: string): Promise<void> =>
  writeFile(file, text, { flag: 'wx' }).catch((cause: NodeJS.ErrnoException) => {
    throw cause.code === 'EEXIST'
      ? new TandemError(
          'CONFIG_EXISTS',
          `Expected no file at "${file}", found one; give another --out, or remove it.`,
          { cause },
        )
      : new TandemError(
          'CONFIG_WRITE',
          `"${file}" cannot be written (${cause.code}); give an --out in a directory that can.`,
          { cause },
        );
  });

export const addInit = (program: Command, outer: ProcessContext): void => {
  program
    .command('init <MODEL>')
    .description('Write a cluster config for this machine and a model.')
    .option('--out <file>', 'where the config goes', 'cluster.yaml')
    .addOption(jsonOption())
    .addOption(verboseOption())
    .addHelpText('after', HELP)
    .action((model: string, options: InitOptions) =>
      withContext(outer, options, async (context) => {
        findDenoiserModel(model);
        const file = resolve(options.out);
        const text = firstConfig(relative(dirname(file), resolve(model)) || '.', await listDevices(context));
        await writeNew(file, text);
        context.print({ file, config: text }, () => `${text}\nwritten to ${options.out}`);
      }),
    );
};
