/**
 * The plain process from the outside: the whole model in one ONNX Runtime session in a process of its own, so that its
 * memory is measured as a worker's is.
 */
import { type ChildProcess, fork } from 'node:child_process';
import { TandemError } from '../../common/errors.js';
import type { Provider } from '../../common/onnxruntime.js';
import type { HostTensor } from '../../common/tensor.js';
import type { Memory } from '../../shard-worker/protocol.js';
import { cancelled } from '../hooks.js';
import type { FromPlain, ToPlain } from './protocol.js';

type PlainReply = Extract<FromPlain, { kind: 'done' }>['value'];

export interface PlainRequest {
  /** The `.onnx` file. */
  readonly model: string;
  readonly provider: Provider;
  readonly deviceId: number;
  readonly threads: number;
  readonly timeouts: { readonly loadMs: number; readonly stepMs: number };
  readonly signal?: AbortSignal;
}

export interface PlainStepResult {
  /** Empty unless asked for. */
  readonly outputs: Readonly<Record<string, HostTensor>>;
  /** ms of the session's run, without moving tensors between the processes */
  readonly computeMs: number;
}

export interface PlainModel {
  readonly pid: number;
  /** ms from the process's start until the session was open */
  readonly loadMs: number;
  /** ms of that until ONNX Runtime began to open it */
  readonly startMs: number;
  /** Latest figures, in bytes. */
  memory(): Memory;
  /** @throws TandemError `PLAIN_FAILED`, `PLAIN_TIMEOUT` */
  step(
    inputs: Readonly<Record<string, HostTensor>>,
    options: { readonly wantOutputs: boolean },
  ): Promise<PlainStepResult>;
  close(): Promise<void>;
}

const failed = (message: string): TandemError =>
  new TandemError('PLAIN_FAILED', `The whole model in one ONNX Runtime session failed: ${message}`);

const CLOSE_MS = 2_000;

/** Sends one request and waits for its reply, the process's end, the time limit or the caller's signal. */
const ask = (child: ChildProcess, request: ToPlain, limitMs: number, signal?: AbortSignal): Promise<PlainReply> =>
  new Promise((resolve, reject) => {
    const finish = (end: () => void): void => {
      clearTimeout(timer);
      child.off('message', onMessage);
      child.off('exit', onExit);
      signal?.removeEventListener('abort', onAbort);
      end();
    };
    const onMessage = (reply: FromPlain): void =>
      finish(() => {
        if (reply.kind === 'done') resolve(reply.value);
        else reject(failed(reply.problem.message));
      });
    const onExit = (code: number | null, by: string | null): void =>
      finish(() => reject(failed(`its process ended (${by === null ? `status ${code}` : by}).`)));
    const onAbort = (): void => finish(() => reject(signal?.reason instanceof Error ? signal.reason : cancelled()));
    const onTimeout = (): void => {
      const message = `The whole model in one ONNX Runtime session did not answer "${request.kind}" within ${limitMs / 1000} s.`;
      finish(() => reject(new TandemError('PLAIN_TIMEOUT', message)));
    };
    const timer = setTimeout(onTimeout, limitMs);
    child.on('message', onMessage);
    child.on('exit', onExit);
    signal?.addEventListener('abort', onAbort, { once: true });
    if (signal?.aborted) return onAbort();
    child.send(request, (error) => {
      if (error) finish(() => reject(failed(error.message)));
    });
  });

const endOf = (child: ChildProcess): Promise<void> =>
  child.exitCode !== null || child.signalCode !== null
    ? Promise.resolve()
    : new Promise((resolve) => child.once('exit', () => resolve()));

const close = async (child: ChildProcess): Promise<void> => {
  if (child.connected) child.disconnect();
  const force = setTimeout(() => child.kill('SIGKILL'), CLOSE_MS);
  await endOf(child);
  clearTimeout(force);
};

const expectKind = <K extends PlainReply['kind']>(reply: PlainReply, kind: K): Extract<PlainReply, { kind: K }> => {
  if (reply.kind !== kind) throw failed(`expected "${kind}" from its process, found "${reply.kind}".`);
  return reply as Extract<PlainReply, { kind: K }>;
};

/**
 * Starts the process and opens the model in it. The caller closes it.
 * @throws TandemError `PLAIN_FAILED` with what ONNX Runtime says, `PLAIN_TIMEOUT`; no process is left behind then
 */
export const openPlainModel = async (request: PlainRequest): Promise<PlainModel> => {
  const { model, provider, deviceId, threads, timeouts, signal } = request;
  const start = performance.now();
  const child = fork(new URL('./child.js', import.meta.url), {
    serialization: 'advanced',
    stdio: ['ignore', 'ignore', 'inherit', 'ipc'],
    execArgv: [],
  });
  let memory: Memory = { private_bytes: 0, peak_private_bytes: 0, mapped_bytes: 0 };
  let openMs = 0;
  try {
    const order = { kind: 'open', model, provider, deviceId, threads } as const;
    ({ memory, openMs } = expectKind(await ask(child, order, timeouts.loadMs, signal), 'opened'));
  } catch (error) {
    await close(child);
    throw error;
  }
  const loadMs = performance.now() - start;
  return {
    pid: child.pid ?? 0,
    loadMs,
    startMs: loadMs - openMs,
    memory: () => memory,
    async step(inputs, { wantOutputs }) {
      const order = { kind: 'step', inputs, wantOutputs } as const;
      const reply = expectKind(await ask(child, order, timeouts.stepMs, signal), 'stepped');
      memory = reply.memory;
      return { outputs: reply.outputs ?? {}, computeMs: reply.computeMs };
    },
    close: () => close(child),
  };
};
