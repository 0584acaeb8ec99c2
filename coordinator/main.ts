/** The `tandem` command's process: arguments in, exit status out. */
import { runCli } from './cli/run.js';

// A reader that has gone away (`tandem plan ... | head`) is no reason to leave workers behind; the work ends as usual.
for (const stream of [process.stdout, process.stderr]) {
  stream.on('error', (error: NodeJS.ErrnoException) => {
    if (error.code !== 'EPIPE') throw error;
  });
}

process.exitCode = await runCli(process.argv.slice(2));
