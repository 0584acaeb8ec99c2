/** The inside of the planning thread. */
import { receiveMessageOnPort } from 'node:worker_threads';
import { type Answer, answer } from '../../common/answer.js';
import { systemError } from '../../common/system-errors.js';
import {
  aimMs,
  bestFor,
  inspect,
  partition,
  planMeshes,
  planPipeline,
  planRanks,
  tensorsOverAll,
  type Watch,
} from '../../partition/index.js';
import { cancelled } from '../hooks.js';
import { findKin } from './kin.js';
import type { BestMesh, Orders, Task } from './protocol.js';

const findMesh = async ({ request, aim }: Orders['mesh']['asked'], watch: Watch): Promise<BestMesh> => {
  const costs = await planMeshes(request, watch);
  const [own, best] = [tensorsOverAll(costs), bestFor(costs, aim)];
  const ownMs = own === undefined ? 0 : aimMs(own, aim);
  return { ownMs, ...(best === undefined ? {} : { better: { cost: best, ms: aimMs(best, aim) } }) };
};

const perform = (task: Task, watch: Watch): Promise<Orders[Task['kind']]['given']> => {
  switch (task.kind) {
    case 'inspect':
      return inspect(task.asked.path, { requireWeights: true });
    case 'ranks':
      return planRanks(task.asked.request, watch);
    case 'pipeline':
      return planPipeline(task.asked.request, task.asked.stages, watch);
    case 'mesh':
      return findMesh(task.asked, watch);
    case 'partition': {
      const { request, out, kin } = task.asked;
      return findKin(out, kin).then((alongside) =>
        partition(request, out, { ...watch, ...(alongside === undefined ? {} : { alongside }) }),
      );
    }
    default:
      return task satisfies never;
  }
};

/** Errors of the system are told apart by what does not cross threads. */
const inWords = async <T>(work: Promise<T>): Promise<T> =>
  work.catch((error: unknown) => {
    throw systemError(error) ?? error;
  });

/** Piscina's entry point: one task in, one answer out. */
export default async (task: Task): Promise<Answer<Orders[Task['kind']]['given']>> => {
  const { port } = task;
  const stopping = new AbortController();
  const stop = (): void => stopping.abort(cancelled());
  port.on('message', stop);
  const watch: Watch = {
    signal: stopping.signal,
    onProgress: (...progress) => {
      // A stage of the plan leaves no time in between for a message to be delivered.
      if (receiveMessageOnPort(port) !== undefined) stop();
      port.postMessage(progress);
    },
  };
  try {
    return await answer(() => inWords(perform(task, watch)));
  } finally {
    port.close();
  }
};
