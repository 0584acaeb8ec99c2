/**
 * A worker never outlives its coordinator. The coordinator holds the other end of the worker's standard input and never
 * writes to it: when the coordinator ends, however it ends, that pipe closes.
 */
import { rmdirSync, rmSync } from 'node:fs';
import { dirname } from 'node:path';
import { socketPath } from './endpoints.js';

const PARENT_CHECK_MS = 1000;

/** Ends this process at once, even while the compute thread is inside a segment, which `process.exit` would wait for. */
export const endNow = (): never => {
  process.kill(process.pid, 'SIGKILL');
  process.abort();
};

const attempt = (action: () => void): void => {
  try {
    action();
  } catch {
    // Another rank may have removed it already, or still uses the directory.
  }
};

/** Removes what a dead coordinator can no longer remove: the sockets and, for the last rank, their directory. */
const removeSockets = (endpoints: readonly string[]): void => {
  const paths = endpoints.flatMap((endpoint) => socketPath(endpoint) ?? []);
  for (const path of paths) attempt(() => rmSync(path, { force: true }));
  for (const path of paths) attempt(() => rmdirSync(dirname(path)));
};

/** Ends the process, and removes its sockets, when the coordinator is gone. */
export const endWithCoordinator = (endpoints: readonly string[]): void => {
  const parent = process.ppid;
  const end = (): never => {
    removeSockets(endpoints);
    return endNow();
  };
  process.stdin.on('end', end).on('close', end).on('error', end).resume();
  setInterval(() => process.ppid !== parent && end(), PARENT_CHECK_MS).unref();
};
