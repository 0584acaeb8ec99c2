/**
 * The outside of the session thread. `session.run` blocks the thread that calls it, so the coordinator's sessions (text
 * encoder, VAE, a whole denoiser) live in a thread of their own and its event loop stays free for Ctrl-C and progress. The thread
 * is ended between runs only: ended while ONNX Runtime works in it, it would take the process along (`Napi::Error`).
 */
import { setTimeout as delay } from 'node:timers/promises';
import { Piscina } from 'piscina';
import { type Answer, unwrap } from '../../common/answer.js';
import { TandemError } from '../../common/errors.js';
import type { Provider, Session } from '../../common/onnxruntime.js';
import { SESSION_FAILED, SESSION_TIMEOUT } from './errors.js';
import type { SessionResult, SessionTask } from './session-protocol.js';

export interface SessionThreadOptions {
  /** `cpu` where absent. */
  readonly provider?: Provider;
  readonly deviceId?: number;
  /** Threads of one operator; ONNX Runtime's default where absent. */
  readonly threads?: number;
  /** Longest that opening or running one session may take, in ms; ten minutes where absent. */
  readonly timeoutMs?: number;
}

/** One thread with any number of open sessions, which run one after the other. */
export interface SessionThread {
  /**
   * Opens an ONNX file; the session's `run` resolves on the caller's thread and never blocks it.
   * @throws TandemError `SESSION_FAILED` with what ONNX Runtime said, `SESSION_TIMEOUT`
   */
  open(model: string): Promise<Session>;
  /** Ends the thread and with it its sessions. */
  close(): Promise<void>;
}

const DEFAULT_TIMEOUT_MS = 600_000;

type Kind = SessionResult['kind'];

const failure = (what: string, message: string): TandemError =>
  new TandemError(
    SESSION_FAILED,
    `${what} failed; check the model's file and the device's memory. The reason given: ${message}`,
  );

const timeout = (what: string, timeoutMs: number): TandemError =>
  new TandemError(
    SESSION_TIMEOUT,
    `${what} took longer than ${timeoutMs} ms; its thread ends with it. Open it again with more time, fewer pixels or a faster device.`,
  );

const expectKind = <K extends Kind>(
  result: SessionResult,
  kind: K,
  what: string,
): Extract<SessionResult, { kind: K }> => {
  if (result.kind !== kind) throw failure(what, `expected "${kind}" from the session thread, found "${result.kind}"`);
  return result as Extract<SessionResult, { kind: K }>;
};

/** Starts a thread; it ends with `close`. */
export const createSessionThread = (options: SessionThreadOptions = {}): SessionThread => {
  const timeoutMs = options.timeoutMs ?? DEFAULT_TIMEOUT_MS;
  const pool = new Piscina<SessionTask, Answer<SessionResult>>({
    filename: new URL('./session-entry.js', import.meta.url).href,
    minThreads: 1,
    maxThreads: 1,
  });

  let ended: TandemError | undefined;
  const running = new Set<Promise<unknown>>();

  const start = (task: SessionTask): Promise<Answer<SessionResult>> => {
    const run: Promise<Answer<SessionResult>> = pool.run(task).finally(() => running.delete(run));
    running.add(run);
    run.catch(() => undefined);
    return run;
  };

  const close = async (): Promise<void> => {
    await Promise.allSettled(running);
    await pool.destroy();
  };

  const perform = async (task: SessionTask, what: string): Promise<SessionResult> => {
    if (ended !== undefined) throw ended;
    const over = new AbortController();
    const late = delay(timeoutMs, undefined, { ref: false, signal: over.signal }).catch(() => undefined);
    try {
      const given = await Promise.race([start(task), late]);
      if (given !== undefined) return unwrap(given);
    } catch (error) {
      throw failure(what, (error as Error).message);
    } finally {
      over.abort();
    }
    ended = timeout(what, timeoutMs);
    void close();
    throw ended;
  };

  return {
    async open(model) {
      const task: SessionTask = {
        kind: 'open',
        model,
        provider: options.provider ?? 'cpu',
        deviceId: options.deviceId ?? 0,
        ...(options.threads === undefined ? {} : { threads: options.threads }),
      };
      const opened = expectKind(await perform(task, `Opening ${model}`), 'opened', `Opening ${model}`);
      const { session } = opened;
      return {
        inputs: opened.inputs,
        outputs: opened.outputs,
        async run(feeds, fetches) {
          const what = `Running ${model}`;
          const task: SessionTask = { kind: 'run', session, feeds, ...(fetches === undefined ? {} : { fetches }) };
          return expectKind(await perform(task, what), 'ran', what).outputs;
        },
        async dispose() {
          const what = `Closing ${model}`;
          expectKind(await perform({ kind: 'dispose', session }, what), 'disposed', what);
        },
      };
    },
    close,
  };
};
