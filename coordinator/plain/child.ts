/** The plain process from the inside: answers `open` and `step` until its coordinator is gone. */
import { Piscina } from 'piscina';
import { MemoryWatch } from '../../shard-worker/memory.js';
import type { ComputeResult } from './compute.js';
import type { FromPlain, ToPlain } from './protocol.js';

const pool = new Piscina<ToPlain, ComputeResult>({
  filename: new URL('./compute.js', import.meta.url).href,
  minThreads: 1,
  maxThreads: 1,
  concurrentTasksPerWorker: 1,
});
const memory = new MemoryWatch();

const toReply = (result: ComputeResult): FromPlain =>
  'inputs' in result
    ? { kind: 'opened', ...result, memory: memory.sample() }
    : { kind: 'stepped', ...result, memory: memory.sample() };

const answer = async (request: ToPlain): Promise<FromPlain> => {
  try {
    return toReply(await pool.run(request));
  } catch (error) {
    return { kind: 'failed', message: error instanceof Error ? error.message : String(error) };
  }
};

// The coordinator decides what Ctrl-C means; a terminal sends it to every process of the group.
process.on('SIGINT', () => undefined);
// A channel that closes means that the coordinator is gone, however it went. An exit would wait for the session's run.
process.on('disconnect', () => process.kill(process.pid, 'SIGKILL'));
process.on('message', (request: ToPlain) => {
  void answer(request).then((reply) => process.send?.(reply));
});
