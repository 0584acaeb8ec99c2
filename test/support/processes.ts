/** Processes that tests start or lose. */
import { processStart } from '#tandem/shard-worker/processes.js';

/** Whether a process runs. One that has ended may still be listed, until whoever inherited it has asked how it ended. */
export const isAlive = (pid: number): boolean => processStart(pid) !== undefined;
