/** `tandem devices`: what this machine can run a model on. */
import type { Command } from 'commander';
import { formatBytes } from '../../config/bytes.js';
import { type DevicesReport, listDevices } from '../../devices/index.js';
import { type CommonOptions, type ProcessContext, withContext } from '../context.js';
import { jsonOption, verboseOption } from '../options.js';
import { formatTable } from '../text-table.js';

const HELP = `
Each provider is tried with one small product, compared with the CPU's. "half" says whether it does half precision.

Example:
  $ tandem devices --json`;

const devicesText = ({ cpu, cards, providers }: DevicesReport): string => {
  const rows = providers.map(({ provider, works, float16, problem }) => [
    provider,
    works ? 'yes' : 'no',
    float16 ? 'yes' : 'no',
    problem ?? '',
  ]);
  const listed = cards.map(({ vendor, model, driver, memory_bytes }) =>
    [vendor, model, driver && `driver ${driver}`, memory_bytes && formatBytes(memory_bytes)].filter(Boolean).join(', '),
  );
  return [
    `cpu    ${cpu.model}, ${cpu.cores} cores, ${formatBytes(cpu.memory_bytes)}`,
    ...(listed.length > 0 ? listed : ['none that the system lists']).map((card) => `card   ${card}`),
    '',
    formatTable([{ title: 'provider' }, { title: 'works' }, { title: 'half' }, { title: 'why not' }], rows),
  ].join('\n');
};

export const addDevices = (program: Command, outer: ProcessContext): void => {
  program
    .command('devices')
    .description('List what this machine can run a model on, each provider tried.')
    .addOption(jsonOption())
    .addOption(verboseOption())
    .addHelpText('after', HELP)
    .action((options: CommonOptions) =>
      withContext(outer, options, async (context) => {
        const report = await listDevices(context);
        context.print(report, () => devicesText(report));
      }),
    );
};
