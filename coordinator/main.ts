/** The `tandem` command's process: arguments in, exit status out. */
import { runCli } from './cli/run.js';

// A reader that has gone away (`tandem plan ... | head`) is no reason to leave workers behind; the work ends as usual.
for (const stream of [process.stdout, process.stderr]) {
  stream.on('error', (error: NodeJS.ErrnoException) => {
    if (error.code !== 'EPIPE') throw error;
  });
}

/** How long a reader of standard error that has stopped reading keeps a command from its end; ms. */
const LAST_WORDS_MS = 2_000;

process.exitCode = await runCli(process.argv.slice(2));
// Results on standard output are waited for, as long as it takes.
setInterval(() => process.stdout.writableLength === 0 && process.exit(), LAST_WORDS_MS).unref();
