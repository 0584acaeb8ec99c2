/** What `fetch` does not send: bytes on a socket, another Host, another address of this machine. */
import { once } from 'node:events';
import { request as httpRequest, type RequestOptions } from 'node:http';
import { connect, type Socket } from 'node:net';
import { text } from 'node:stream/consumers';

/** An image request as it stands on the wire. */
export const postBytes = (body: unknown): string => {
  const content = JSON.stringify(body);
  const head = ['POST /v1/images/generations HTTP/1.1', 'host: localhost', 'content-type: application/json'];
  return [...head, `content-length: ${content.length}`, '', content].join('\r\n');
};

export const open = async (url: string): Promise<Socket> => {
  const { port, hostname } = new URL(url);
  const socket = connect(Number(port), hostname);
  socket.on('error', () => undefined);
  await once(socket, 'connect');
  return socket;
};

/** Sends bytes and returns all that comes back. */
export const exchange = async (url: string, bytes: string): Promise<string> => {
  const socket = await open(url);
  socket.write(bytes);
  return text(socket);
};

export interface RawAnswer {
  readonly status: number;
  readonly headers: Readonly<Record<string, string | string[] | undefined>>;
  readonly body: string;
}

/** A request with nothing that `fetch` would set right. */
export const ask = async (
  url: string,
  path: string,
  options: RequestOptions = {},
  body?: string,
): Promise<RawAnswer> => {
  const { port, hostname } = new URL(url);
  const request = httpRequest({ host: hostname, port, path, agent: false, ...options });
  request.end(body);
  const [response] = await once(request, 'response');
  return { status: response.statusCode, headers: response.headers, body: await text(response) };
};
