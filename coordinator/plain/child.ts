/** The plain process from the inside: answers `open` and `step` until its coordinator is gone. */
import { Piscina } from 'piscina';
import { type Answer, answer, unwrap } from '../../common/answer.js';
import { MemoryWatch } from '../../shard-worker/memory.js';
import type { FromPlain, PlainOpened, PlainStepped, ToPlain } from './protocol.js';

const pool = new Piscina<ToPlain, Answer<PlainOpened | PlainStepped>>({
  filename: new URL('./compute.js', import.meta.url).href,
  minThreads: 1,
  maxThreads: 1,
  concurrentTasksPerWorker: 1,
});
const memory = new MemoryWatch();

const reply = (request: ToPlain): Promise<FromPlain> =>
  answer(async () => ({ ...unwrap(await pool.run(request)), memory: memory.sample() }));

// The coordinator decides what Ctrl-C means; a terminal sends it to every process of the group.
process.on('SIGINT', () => undefined);
// A channel that closes means that the coordinator is gone, however it went. An exit would wait for the session's run.
process.on('disconnect', () => process.kill(process.pid, 'SIGKILL'));
process.on('message', (request: ToPlain) => {
  void reply(request).then((message) => process.send?.(message));
});
