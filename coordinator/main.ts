/** The `tandem` command's process: arguments in, exit status out. */
import { runCli } from './cli/run.js';

process.exitCode = await runCli(process.argv.slice(2));
