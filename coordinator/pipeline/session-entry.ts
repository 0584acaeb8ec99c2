/** The inside of the session thread: holds ONNX Runtime sessions and runs them, where blocking hurts nobody. */
import { type Answer, answer } from '../../common/answer.js';
import { openSession, type Session } from '../../common/onnxruntime.js';
import type { SessionResult, SessionTask } from './session-protocol.js';

const sessions = new Map<number, Session>();
let opened = 0;

const sessionOf = (id: number): Session => {
  const session = sessions.get(id);
  if (session === undefined) throw new Error(`session ${id} is not open`);
  return session;
};

const open = async (task: Extract<SessionTask, { kind: 'open' }>): Promise<SessionResult> => {
  const session = await openSession(task.model, {
    provider: task.provider,
    deviceId: task.deviceId,
    optimization: 'all',
    ...(task.threads === undefined ? {} : { threads: task.threads }),
  });
  const id = opened++;
  sessions.set(id, session);
  return { kind: 'opened', session: id, inputs: session.inputs, outputs: session.outputs };
};

const dispose = async (id: number): Promise<SessionResult> => {
  await sessionOf(id).dispose();
  sessions.delete(id);
  return { kind: 'disposed' };
};

const perform = async (task: SessionTask): Promise<SessionResult> => {
  switch (task.kind) {
    case 'open':
      return open(task);
    case 'run':
      return { kind: 'ran', outputs: await sessionOf(task.session).run(task.feeds, task.fetches) };
    case 'dispose':
      return dispose(task.session);
    default:
      return task satisfies never;
  }
};

/** Piscina's entry point: one task in, one answer out. */
export default (task: SessionTask): Promise<Answer<SessionResult>> => answer(() => perform(task));
