/**
 * The listening socket before versions that come and go: a request goes to the version that is shown when it arrives, and stays
 * with it to its end. A connection has one request under way; what a client sends on before its answer waits here, and is forgotten
 * with the connection, so that a client that goes is gone with everything it asked for.
 */
import { createServer, type IncomingMessage, type Server, type ServerResponse } from 'node:http';
import type { Socket } from 'node:net';
import { setTimeout as delay } from 'node:timers/promises';

export type Handler = (request: IncomingMessage, response: ServerResponse) => void;

/** How long a client may take to send its request; ms. */
const REQUEST_TIMEOUT_MS = 30_000;
/** How long a connection without requests is kept; ms. Longer than load balancers keep theirs, so that it is they who close. */
const KEEP_ALIVE_MS = 72_000;
/** How long a client may read nothing of what is there for it, or say nothing after it has connected; ms. */
const IDLE_MS = 30_000;
/** How long a client may take to read an answer that is complete; ms. */
const READ_LIMIT_MS = 300_000;
const MAX_CONNECTIONS = 512;
/** No address takes them all: an orchestrator that cannot connect ends the server. */
const MAX_CONNECTIONS_PER_ADDRESS = 256;
/** Requests that a connection may have sent ahead. */
const MAX_PIPELINED = 16;
const LOOK_MS = 50;

interface Exchange {
  readonly request: IncomingMessage;
  readonly response: ServerResponse;
}

export class Front {
  readonly #underWay = new Map<Handler, number>();
  /** Of connections with a request under way: those that came after it. */
  readonly #pipelined = new Map<Socket, Exchange[]>();
  readonly #connections = new Map<string, number>();
  #shown: Handler | undefined;

  /** A server, not yet listening, whose requests go to whatever is shown. */
  createServer(): Server {
    const server = createServer((request, response) => this.#take({ request, response }));
    server.requestTimeout = REQUEST_TIMEOUT_MS;
    server.keepAliveTimeout = KEEP_ALIVE_MS;
    server.timeout = IDLE_MS;
    server.maxConnections = MAX_CONNECTIONS;
    server.on('connection', (socket) => this.#connect(socket));
    server.on('timeout', (socket) => this.#idle(socket));
    return server;
  }

  show(handler: Handler): void {
    this.#shown = handler;
  }

  /** Waits until every request that a handler was given is answered, or its client has gone. */
  async answered(handler: Handler): Promise<void> {
    while ((this.#underWay.get(handler) ?? 0) > 0) await delay(LOOK_MS);
  }

  #connect(socket: Socket): void {
    const address = socket.remoteAddress ?? '';
    const before = this.#connections.get(address) ?? 0;
    if (before >= MAX_CONNECTIONS_PER_ADDRESS) {
      socket.destroy();
      return;
    }
    this.#connections.set(address, before + 1);
    socket.once('close', () => {
      const left = (this.#connections.get(address) ?? 1) - 1;
      if (left === 0) this.#connections.delete(address);
      else this.#connections.set(address, left);
    });
  }

  /** A client that waits for its picture is silent for good reason; one that does not read, or has not asked, is not. */
  #idle(socket: Socket): void {
    if (!this.#pipelined.has(socket) || socket.writableLength > 0) socket.destroy();
  }

  #take(exchange: Exchange): void {
    const { socket } = exchange.request;
    const waiting = this.#pipelined.get(socket);
    if (waiting === undefined) this.#dispatch(exchange);
    else if (waiting.length < MAX_PIPELINED) waiting.push(exchange);
    else socket.destroy();
  }

  #dispatch({ request, response }: Exchange): void {
    const { socket } = request;
    const handler = this.#shown;
    if (handler === undefined) {
      response.writeHead(503).end();
      return;
    }
    if (!this.#pipelined.has(socket)) this.#pipelined.set(socket, []);
    this.#count(handler, 1);
    const limit = new AbortController();
    response.once('prefinish', () => this.#limitReading(socket, limit.signal));
    response.once('close', () => {
      limit.abort();
      this.#count(handler, -1);
      this.#next(socket);
    });
    handler(request, response);
  }

  #next(socket: Socket): void {
    const next = this.#pipelined.get(socket)?.shift();
    if (next === undefined || socket.destroyed) this.#pipelined.delete(socket);
    else this.#dispatch(next);
  }

  #limitReading(socket: Socket, signal: AbortSignal): void {
    const timer = setTimeout(() => socket.destroy(), READ_LIMIT_MS).unref();
    signal.addEventListener('abort', () => clearTimeout(timer), { once: true });
  }

  #count(handler: Handler, change: 1 | -1): void {
    this.#underWay.set(handler, (this.#underWay.get(handler) ?? 0) + change);
  }
}
