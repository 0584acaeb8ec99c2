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

const expectKind = <K extends Kind>(result: SessionResult, kind: K): Extract<SessionResult, { kind: K }> => {
  if (result.kind !== kind) throw new Error(`expected "${kind}" from the session thread, found "${result.kind}"`);
  return result as Extract<SessionResult, { kind: K }>;
};

class OwnThread implements SessionThread {
  readonly #pool = new Piscina<SessionTask, Answer<SessionResult>>({
    filename: new URL('./session-entry.js', import.meta.url).href,
    minThreads: 1,
    maxThreads: 1,
  });
  readonly #options: SessionThreadOptions;
  readonly #running = new Set<Promise<unknown>>();
  #ended: TandemError | undefined;

  constructor(options: SessionThreadOptions) {
    this.#options = options;
  }

  async open(model: string): Promise<Session> {
    const { provider = 'cpu', deviceId = 0, threads } = this.#options;
    const order = { kind: 'open', model, provider, deviceId, ...(threads === undefined ? {} : { threads }) } as const;
    const { session, inputs, outputs } = await this.#perform(order, 'opened', `Opening ${model}`);
    return {
      inputs,
      outputs,
      run: async (feeds, fetches) => {
        const task = { kind: 'run', session, feeds, ...(fetches === undefined ? {} : { fetches }) } as const;
        return (await this.#perform(task, 'ran', `Running ${model}`)).outputs;
      },
      dispose: async () => {
        await this.#perform({ kind: 'dispose', session }, 'disposed', `Closing ${model}`);
      },
    };
  }

  async close(): Promise<void> {
    await Promise.allSettled(this.#running);
    await this.#pool.destroy();
  }

  #start(task: SessionTask): Promise<Answer<SessionResult>> {
    const run: Promise<Answer<SessionResult>> = this.#pool.run(task).finally(() => this.#running.delete(run));
    this.#running.add(run);
    run.catch(() => undefined);
    return run;
  }

  /** @param what is done, for messages */
  async #perform<K extends Kind>(
    task: SessionTask,
    kind: K,
    what: string,
  ): Promise<Extract<SessionResult, { kind: K }>> {
    if (this.#ended !== undefined) throw this.#ended;
    const { timeoutMs = DEFAULT_TIMEOUT_MS } = this.#options;
    const over = new AbortController();
    const late = delay(timeoutMs, undefined, { ref: false, signal: over.signal }).catch(() => undefined);
    try {
      const given = await Promise.race([this.#start(task), late]);
      if (given !== undefined) return expectKind(unwrap(given), kind);
    } catch (error) {
      throw failure(what, (error as Error).message);
    } finally {
      over.abort();
    }
    this.#ended = timeout(what, timeoutMs);
    void this.close();
    throw this.#ended;
  }
}

/** Starts a thread; it ends with `close`. */
export const createSessionThread = (options: SessionThreadOptions = {}): SessionThread => new OwnThread(options);
