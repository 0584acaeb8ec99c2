/**
 * The server's log: a JSON object a line, that nobody waits for. A reader that has stopped reading would otherwise stop the server
 * once the pipe is full; here lines are dropped beyond a bound, counted, and their number is told when there is room again.
 */
import type { Writable } from 'node:stream';
import { type Level, type Logger, pino } from 'pino';

/** Unread bytes from which on lines are dropped. */
const MAX_UNREAD_BYTES = 2 ** 18;

export interface ServerLog {
  readonly log: Logger;
  /** Lines that nobody will read, since the start. */
  dropped(): number;
  /** Writes what was held back, and each further line at once. */
  release(): void;
}

/**
 * A log that is held back until `release`, when the workers are ready: until then a person reads sentences and progress, and a start
 * that fails ends in one plain error and not in a log of it as well. Held lines bear the times at which they were logged.
 * @param stream asynchronous where it is a pipe, as `process.stderr` is on all but Windows
 */
export const createServerLog = (stream: Writable, level: Level): ServerLog => {
  let dropped = 0;
  let told = 0;
  const tell = (): void => {
    const lines = dropped - told;
    told = dropped;
    log.warn({ lines }, 'lines of this log were dropped: nobody read them');
  };
  const held: string[] = [];
  let holds = true;
  const write = (line: string): void => {
    if (holds) held.push(line);
    else if (stream.writableLength > MAX_UNREAD_BYTES) dropped += 1;
    else {
      stream.write(line);
      if (dropped > told) tell();
    }
  };
  const log: Logger = pino({ name: 'tandem', level }, { write });
  const release = (): void => {
    holds = false;
    for (const line of held.splice(0)) write(line);
  };
  return { log, dropped: () => dropped, release };
};
