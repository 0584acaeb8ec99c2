/** The command line as a whole; each command is one file in `commands/`. */
import { Command } from 'commander';
import { TOOL_VERSION } from '../version.js';
import { addBench } from './commands/bench.js';
import { addGenerate } from './commands/generate.js';
import { addLaunch } from './commands/launch.js';
import { addPartition } from './commands/partition.js';
import { addPlan } from './commands/plan.js';
import { addSchema } from './commands/schema.js';
import { addVerify } from './commands/verify.js';
import type { ProcessContext } from './context.js';

const OVERVIEW = `
A MODEL is a diffusers-layout directory with ONNX parts, or a bare .onnx file.

First steps:
  $ tandem generate --config configs/dual-cpu.yaml --prompt "a red apple" --out apple.png
  $ tandem plan models/emoji-sd --tensor-parallel-size 2 --dim batch_size=2 --dim height=8 ...
  $ tandem bench --config configs/single-cpu.yaml --config configs/dual-cpu.yaml

Exit status: 0 done, 1 failed, 2 not understood, 130 cancelled with Ctrl-C.
\`tandem help COMMAND\` shows a command's options with an example.`;

const COMMANDS = [addPlan, addPartition, addVerify, addGenerate, addLaunch, addBench, addSchema] as const;

export const createProgram = (context: ProcessContext): Command => {
  const program = new Command('tandem')
    .description('Runs one ONNX diffusion model on several devices at once.')
    .version(TOOL_VERSION, '-V, --version')
    .showHelpAfterError('(add --help for the options and an example)')
    .addHelpText('after', OVERVIEW)
    .exitOverride();
  for (const add of COMMANDS) add(program, context);
  return program;
};
