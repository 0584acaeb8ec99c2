/**
 * The partitioner in a thread of its own. Reading, planning and emitting a model takes seconds of work without a pause; on the main
 * thread nobody would hear meanwhile that a worker is lost, nor would a server answer those who are served already. The thread keeps
 * what it has loaded for the next order, and ends soon after the last.
 */
import { MessageChannel } from 'node:worker_threads';
import { Piscina } from 'piscina';
import { type Answer, unwrap } from '../../common/answer.js';
import { checkCancelled, type Hooks } from '../hooks.js';
import type { Kind, Orders, Progress, Task } from './protocol.js';

export type { TimedMesh } from './protocol.js';

const IDLE_MS = 5_000;

let threads: Piscina<Task, Answer<unknown>> | undefined;

/** One: what is planned at the same time would only take turns. */
const thread = (): Piscina<Task, Answer<unknown>> => {
  threads ??= new Piscina<Task, Answer<unknown>>({
    filename: new URL('./entry.js', import.meta.url).href,
    minThreads: 0,
    maxThreads: 1,
    idleTimeout: IDLE_MS,
  });
  return threads;
};

type Watched = Pick<Hooks, 'onProgress' | 'signal'>;

/**
 * Has the partitioner do something; `partition/index.ts` says what each is. An aborted signal ends it between two stages: a thread is
 * never ended while ONNX Runtime works in it, which would take the process along.
 * @throws TandemError as the partitioner does; the signal's reason
 */
export const plan = async <K extends Kind>(
  kind: K,
  asked: Orders[K]['asked'],
  { onProgress, signal }: Watched = {},
): Promise<Orders[K]['given']> => {
  checkCancelled(signal);
  const { port1, port2 } = new MessageChannel();
  port1.on('message', (progress: Progress) => onProgress?.(...progress));
  const stop = (): void => port1.postMessage('stop');
  signal?.addEventListener('abort', stop, { once: true });
  try {
    const task = { kind, asked, port: port2 } as Task;
    return unwrap(await thread().run(task, { transferList: [port2] })) as Orders[K]['given'];
  } catch (error) {
    checkCancelled(signal);
    throw error;
  } finally {
    signal?.removeEventListener('abort', stop);
    port1.close();
  }
};
