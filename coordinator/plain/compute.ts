/** The plain process's compute thread: `session.run` blocks its thread, and the main one watches the memory meanwhile. */
import { openSession, type Session, type TensorMetadata } from '../../common/onnxruntime.js';
import type { HostTensor } from '../../common/tensor.js';
import type { ToPlain } from './protocol.js';

let session: Session | undefined;

export type ComputeResult =
  | { readonly inputs: readonly TensorMetadata[]; readonly outputs: readonly TensorMetadata[]; readonly openMs: number }
  | { readonly outputs?: Readonly<Record<string, HostTensor>>; readonly computeMs: number };

/** One request at a time, as the pool has one thread. */
export default async (request: ToPlain): Promise<ComputeResult> => {
  switch (request.kind) {
    case 'open': {
      const { model, provider, deviceId, threads } = request;
      const start = performance.now();
      session = await openSession(model, { provider, deviceId, threads, optimization: 'all', alone: true });
      return { inputs: session.inputs, outputs: session.outputs, openMs: performance.now() - start };
    }
    case 'step': {
      if (!session) throw new Error('Expected the model to be opened before its first step.');
      const start = performance.now();
      const outputs = await session.run(request.inputs);
      const computeMs = performance.now() - start;
      return request.wantOutputs ? { outputs, computeMs } : { computeMs };
    }
    default:
      return request satisfies never;
  }
};
