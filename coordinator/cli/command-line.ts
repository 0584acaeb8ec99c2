/** The command line as a whole; each command is one file in `commands/`. */
import { Command } from 'commander';
import { ownPath } from '../../common/own-files.js';
import { TOOL_VERSION } from '../../common/version.js';
import type { ProcessContext } from './context.js';

const OVERVIEW = `
A MODEL is a diffusers-layout directory with ONNX parts, or a bare .onnx file.

First steps:
  $ tandem generate --config configs/dual-cpu.yaml --prompt "a red apple" --out apple.png
  $ tandem plan models/emoji-sd --tensor-parallel-size 2
  $ tandem bench --config configs/single-cpu.yaml --config configs/dual-cpu.yaml

Exit status: 0 done, 1 failed, 2 not understood, 130 cancelled with Ctrl-C.
\`tandem help COMMAND\` shows a command's options with an example.`;

/** Examples name files as they are found from where the command is run. */
const fromHere = (text: string): string =>
  text.replaceAll(/(?<=\s)(configs|models\/emoji-sd)\b/g, (path: string) => ownPath(path));

type AddCommand = (program: Command, context: ProcessContext) => void;

/** In the order in which help lists them. */
const COMMANDS: ReadonlyMap<string, () => Promise<AddCommand>> = new Map([
  ['plan', async () => (await import('./commands/plan.js')).addPlan],
  ['partition', async () => (await import('./commands/partition.js')).addPartition],
  ['verify', async () => (await import('./commands/verify.js')).addVerify],
  ['generate', async () => (await import('./commands/generate.js')).addGenerate],
  ['launch', async () => (await import('./commands/launch.js')).addLaunch],
  ['worker', async () => (await import('./commands/worker.js')).addWorker],
  ['keys', async () => (await import('./commands/keys.js')).addKeys],
  ['bench', async () => (await import('./commands/bench.js')).addBench],
  ['simulate', async () => (await import('./commands/simulate.js')).addSimulate],
  ['devices', async () => (await import('./commands/devices.js')).addDevices],
  ['init', async () => (await import('./commands/init.js')).addInit],
  ['schema', async () => (await import('./commands/schema.js')).addSchema],
]);

/** What a command needs is loaded when it is asked for, which is most of a start; help and mistakes need all of them. */
const loadCommands = (args: readonly string[]): Promise<readonly AddCommand[]> => {
  const asked = COMMANDS.get(args.find((arg) => !arg.startsWith('-')) ?? '');
  return Promise.all((asked ? [asked] : [...COMMANDS.values()]).map((load) => load()));
};

/** @param args without the program's own name */
export const createProgram = async (context: ProcessContext, args: readonly string[]): Promise<Command> => {
  const program = new Command('tandem')
    .description('Runs one ONNX diffusion model on several devices at once.')
    .version(TOOL_VERSION, '-V, --version')
    .showHelpAfterError('(add --help for the options and an example)')
    .addHelpText('after', OVERVIEW)
    .configureOutput({ writeOut: (text) => process.stdout.write(fromHere(text)) })
    .exitOverride();
  for (const add of await loadCommands(args)) add(program, context);
  return program;
};
