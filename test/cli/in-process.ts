/** The command line inside of this process, for what is over before any work begins: a process of its own takes half a second to start. */
import { vi } from 'vitest';
import { runCli } from '#tandem/coordinator/cli/run.js';
import type { Ended } from './tandem.js';

/** What is written to a stream, from now on until `restore`. */
const capture = (stream: NodeJS.WriteStream) => {
  let text = '';
  const spy = vi.spyOn(stream, 'write').mockImplementation((chunk) => {
    text += String(chunk);
    return true;
  });
  return { text: () => text, restore: () => spy.mockRestore() };
};

export const runHere = async (...args: readonly string[]): Promise<Ended> => {
  const [stdout, stderr] = [capture(process.stdout), capture(process.stderr)];
  try {
    const status = await runCli(args);
    return { status, stdout: stdout.text(), stderr: stderr.text() };
  } finally {
    stdout.restore();
    stderr.restore();
  }
};
