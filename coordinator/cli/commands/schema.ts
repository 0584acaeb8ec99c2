/** `tandem schema`: the config's JSON Schema, for editors. */
import type { Command } from 'commander';
import { clusterJsonSchemaText } from '../../config/index.js';
import type { ProcessContext } from '../context.js';

const HELP = `
Example:
  $ tandem schema > cluster.schema.json
  then, as the first line of a config: # yaml-language-server: $schema=cluster.schema.json`;

export const addSchema = (program: Command, _context: ProcessContext): void => {
  program
    .command('schema')
    .description('Print the JSON Schema of cluster configs, with which editors check and complete them.')
    .addHelpText('after', HELP)
    .action(() => void process.stdout.write(clusterJsonSchemaText()));
};
