/** The plain process's compute thread: `session.run` blocks its thread, and the main one watches the memory meanwhile. */
import { type Answer, answer } from '../../common/answer.js';
import { openSession, type Session } from '../../common/onnxruntime.js';
import type { PlainOpened, PlainStepped, ToPlain } from './protocol.js';

let session: Session | undefined;

const perform = async (request: ToPlain): Promise<PlainOpened | PlainStepped> => {
  switch (request.kind) {
    case 'open': {
      const { model, provider, deviceId, threads } = request;
      const start = performance.now();
      session = await openSession(model, { provider, deviceId, threads, optimization: 'all', alone: true });
      return { kind: 'opened', inputs: session.inputs, outputs: session.outputs, openMs: performance.now() - start };
    }
    case 'step': {
      if (!session) throw new Error('Expected the model to be opened before its first step.');
      const start = performance.now();
      const outputs = await session.run(request.inputs);
      const computeMs = performance.now() - start;
      return { kind: 'stepped', computeMs, ...(request.wantOutputs ? { outputs } : {}) };
    }
    default:
      return request satisfies never;
  }
};

/** One request at a time, as the pool has one thread. */
export default (request: ToPlain): Promise<Answer<PlainOpened | PlainStepped>> => answer(() => perform(request));
