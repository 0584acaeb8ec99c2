/**
 * The listening socket before versions that come and go: a request goes to the version that is shown when it arrives, and stays
 * with it to its end.
 */
import { createServer, type IncomingMessage, type Server, type ServerResponse } from 'node:http';
import { setTimeout as delay } from 'node:timers/promises';

export type Handler = (request: IncomingMessage, response: ServerResponse) => void;

/** How long a client may take to send its request; ms. */
const REQUEST_TIMEOUT_MS = 30_000;
/** How long a connection without requests is kept; ms. Longer than load balancers keep theirs, so that it is they who close. */
const KEEP_ALIVE_MS = 72_000;
const LOOK_MS = 50;

export class Front {
  readonly #underWay = new Map<Handler, number>();
  #shown: Handler | undefined;

  /** A server, not yet listening, whose requests go to whatever is shown. */
  createServer(): Server {
    const server = createServer((request, response) => this.#dispatch(request, response));
    server.requestTimeout = REQUEST_TIMEOUT_MS;
    server.keepAliveTimeout = KEEP_ALIVE_MS;
    return server;
  }

  show(handler: Handler): void {
    this.#shown = handler;
  }

  /** Waits until every request that a handler was given is answered, or its client has gone. */
  async answered(handler: Handler): Promise<void> {
    while ((this.#underWay.get(handler) ?? 0) > 0) await delay(LOOK_MS);
  }

  #dispatch(request: IncomingMessage, response: ServerResponse): void {
    const handler = this.#shown;
    if (handler === undefined) {
      response.writeHead(503).end();
      return;
    }
    this.#count(handler, 1);
    response.once('close', () => this.#count(handler, -1));
    handler(request, response);
  }

  #count(handler: Handler, change: 1 | -1): void {
    this.#underWay.set(handler, (this.#underWay.get(handler) ?? 0) + change);
  }
}
