/** The image requests under way: each ends early when its client goes or the server stops. */
import type { ServerResponse } from 'node:http';
import { setTimeout as delay } from 'node:timers/promises';
import { type ApiError, clientGone } from './errors.js';

const POLL_MS = 20;

export class Requests {
  readonly #controllers = new Set<AbortController>();

  /**
   * Runs `work` with a signal that fires when the client closes its connection before the answer is complete, or when
   * `endAll` is called; then it throws the reason, whatever `work` made of it.
   */
  async watch<T>(response: ServerResponse, work: (signal: AbortSignal) => Promise<T>): Promise<T> {
    const controller = new AbortController();
    const { signal } = controller;
    let gone = false;
    const onClose = (): void => {
      gone = !response.writableFinished;
      if (gone) controller.abort(clientGone());
    };
    this.#controllers.add(controller);
    response.once('close', onClose);
    if (response.destroyed) onClose();
    try {
      const result = await work(signal);
      // What was done for somebody who left meanwhile was done for nobody.
      if (gone) throw signal.reason;
      return result;
    } catch (error) {
      throw signal.aborted ? signal.reason : error;
    } finally {
      response.off('close', onClose);
      this.#controllers.delete(controller);
    }
  }

  /** Ends all that are under way; each after the step that runs. */
  endAll(reason: ApiError): void {
    for (const controller of this.#controllers) controller.abort(reason);
  }

  /** Waits until none is under way. @returns whether that was so within `timeoutMs` */
  async finished(timeoutMs: number): Promise<boolean> {
    const end = performance.now() + timeoutMs;
    while (this.#controllers.size > 0 && performance.now() < end) await delay(POLL_MS);
    return this.#controllers.size === 0;
  }
}
