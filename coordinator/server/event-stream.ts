/** Server-sent events (HTML standard, section 9.2) on a response that Fastify has let go of. */
import type { ServerResponse } from 'node:http';
import { type ApiError, errorBody } from './errors.js';

/** A comment so often keeps proxies from closing a silent connection; ms. */
const KEEP_ALIVE_MS = 15_000;
/** Unread bytes from which on events that may be missed are dropped. */
const CROWDED_BYTES = 4 * 2 ** 20;
/** How long a reader may take for what is left at the end; ms. */
const LAST_READ_MS = 30_000;

export class EventStream {
  readonly #response: ServerResponse;
  readonly #keepAlive: NodeJS.Timeout;

  /** Sends the response's head. */
  constructor(response: ServerResponse, headers: Readonly<Record<string, string>>) {
    this.#response = response;
    response.writeHead(200, {
      'content-type': 'text/event-stream; charset=utf-8',
      'cache-control': 'no-store',
      // Asks nginx not to hold events back.
      'x-accel-buffering': 'no',
      'x-content-type-options': 'nosniff',
      ...headers,
    });
    response.flushHeaders();
    this.#keepAlive = setInterval(() => this.#write(': waiting\n\n'), KEEP_ALIVE_MS);
  }

  /** Sends an event under its `type`; one that may be missed is dropped while the reader lags behind. */
  send(event: Readonly<Record<string, unknown>>, mayBeMissed = false): void {
    if (mayBeMissed && this.#response.writableLength > CROWDED_BYTES) return;
    this.#write(`event: ${String(event.type)}\ndata: ${JSON.stringify(event)}\n\n`);
  }

  /** Sends an error as the last event. */
  async fail(error: ApiError): Promise<void> {
    this.send({ type: 'error', ...errorBody(error) });
    await this.end();
  }

  /** Ends the stream and waits until its reader has it, or is too slow or gone. */
  async end(last?: string): Promise<void> {
    clearInterval(this.#keepAlive);
    const response = this.#response;
    if (response.destroyed) return;
    await new Promise<void>((resolve) => {
      const timer = setTimeout(() => response.destroy(), LAST_READ_MS);
      response.once('close', () => {
        clearTimeout(timer);
        resolve();
      });
      response.end(last === undefined ? undefined : `data: ${last}\n\n`);
    });
  }

  #write(text: string): void {
    if (!this.#response.destroyed && !this.#response.writableEnded) this.#response.write(text);
  }
}
