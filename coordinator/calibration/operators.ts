/** The measuring process from the outside. */
import { type ChildProcess, fork } from 'node:child_process';
import { TandemError } from '../../common/errors.js';
import type { Measured } from '../../partition/calibrate/index.js';
import { KEEP_FREED_MEMORY } from '../cluster/index.js';
import { cancelled, type Hooks } from '../hooks.js';
import type { FromMeasuring, MeasureRequest } from './protocol.js';

/** Longest silence, in ms: the largest operators of the largest models take seconds, several times over. */
const SILENCE_MS = 300_000;

const failed = (message: string): TandemError =>
  new TandemError('CALIBRATE_FAILED', `Measuring the model's operators failed: ${message}`);

const answerOf = (child: ChildProcess, { signal, onProgress }: Hooks): Promise<Measured> =>
  new Promise((resolve, reject) => {
    let timer = setTimeout(() => undefined, 0);
    const end = (settle: () => void): void => {
      clearTimeout(timer);
      signal?.removeEventListener('abort', onAbort);
      settle();
    };
    const onAbort = (): void => end(() => reject(signal?.reason instanceof Error ? signal.reason : cancelled()));
    const wait = (): void => {
      clearTimeout(timer);
      timer = setTimeout(
        () => end(() => reject(failed(`nothing was heard of it for ${SILENCE_MS / 1000} s.`))),
        SILENCE_MS,
      );
    };
    wait();
    child.on('message', (message: FromMeasuring) => {
      wait();
      switch (message.kind) {
        case 'progress':
          return onProgress?.('calibrate', message.done, message.total);
        case 'done':
          return end(() => resolve(message.value));
        case 'failed':
          return end(() => reject(failed(message.problem.message)));
        default:
          return message satisfies never;
      }
    });
    child.once('exit', (code, by) => end(() => reject(failed(`its process ended (${by ?? `status ${code}`}).`))));
    signal?.addEventListener('abort', onAbort, { once: true });
    if (signal?.aborted) onAbort();
  });

const startChild = (): ChildProcess =>
  fork(new URL('./child.js', import.meta.url), {
    serialization: 'advanced',
    stdio: ['ignore', 'ignore', 'inherit', 'ipc'],
    execArgv: [],
    env: { ...KEEP_FREED_MEMORY, ...process.env },
  });

/**
 * Measures a model's operators on a device, in a process of its own.
 * @param alike devices of the kind that compute at once. Ranks on one processor slow each other, so that many processes do
 * the same, and the first one's figures count
 * @throws TandemError `CALIBRATE_FAILED`; the signal's reason when it aborts. No process is left behind
 */
export const measureOperators = async (request: MeasureRequest, alike: number, hooks: Hooks): Promise<Measured> => {
  const child = startChild();
  const companions = Array.from({ length: alike - 1 }, startChild);
  try {
    for (const one of [child, ...companions]) one.send(request);
    return await answerOf(child, hooks);
  } finally {
    for (const one of [child, ...companions]) one.kill('SIGKILL');
  }
};
