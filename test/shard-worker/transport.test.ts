import { createServer } from 'node:net';
import { join } from 'node:path';
import { expect, it } from 'vitest';
import { checkEndpoint } from '#tandem/shard-worker/endpoints.js';
import { MemoryWatch, privateBytes } from '#tandem/shard-worker/memory.js';
import { ControlClient, ControlServer, ExchangeInbox } from '#tandem/shard-worker/transport.js';
import { decodeFromWorker, decodeToWorker, encodeMessage, toProblem } from '#tandem/shard-worker/wire.js';
import { errorOf, until, withDirectory } from '../cluster/helpers.js';

it.each(['ipc:///tmp/a.sock', 'tcp://127.0.0.1:*', 'tcp://127.0.0.1:5555', 'tcp://[::1]:5555', 'tcp://localhost:1'])(
  'allows %s, which no other machine can reach',
  (endpoint) => {
    expect(() => checkEndpoint(endpoint)).not.toThrow();
  },
);

it.each([
  ['tcp://0.0.0.0:5555', 'ENDPOINT_NOT_LOCAL'],
  ['tcp://*:5555', 'ENDPOINT_NOT_LOCAL'],
  ['tcp://192.168.1.7:5555', 'ENDPOINT_NOT_LOCAL'],
  ['tcp://127.0.0.1.example.org:5555', 'ENDPOINT_NOT_LOCAL'],
  ['udp://127.0.0.1:5555', 'ENDPOINT_INVALID'],
  ['ipc://relative.sock', 'ENDPOINT_INVALID'],
  [`ipc:///${'long/'.repeat(30)}a.sock`, 'ENDPOINT_TOO_LONG'],
])('refuses %s with %s, on every kind of socket', async (endpoint, code) => {
  expect((await errorOf(ControlServer.listen(endpoint))).code).toBe(code);
  expect((await errorOf(ExchangeInbox.listen(endpoint))).code).toBe(code);
  expect(() => new ControlClient(endpoint, '0')).toThrow();
});

it('does not take over a unix socket that belongs to someone else', async () => {
  await withDirectory(async (directory) => {
    const endpoint = `ipc://${join(directory, 'a.sock')}`;
    const owner = await ExchangeInbox.listen(endpoint);
    const error = await errorOf(ExchangeInbox.listen(endpoint));
    expect(error.code).toBe('ENDPOINT_IN_USE');
    expect(error.message).toMatch(/already in use; stop the process/);
    owner.close();
  });
});

it('says that a port is in use, and finds free ones by itself', async () => {
  const owner = createServer().listen(0, '127.0.0.1');
  await until(() => owner.listening);
  const address = owner.address();
  const port = typeof address === 'object' && address !== null ? address.port : 0;
  expect((await errorOf(ControlServer.listen(`tcp://127.0.0.1:${port}`))).code).toBe('ENDPOINT_IN_USE');
  owner.close();
  const inboxes = await Promise.all([0, 1].map(() => ExchangeInbox.listen('tcp://127.0.0.1:*')));
  expect(new Set(inboxes.map((inbox) => inbox.endpoint)).size).toBe(2);
  for (const inbox of inboxes) inbox.close();
});

it('carries control messages with their bytes', async () => {
  await withDirectory(async (directory) => {
    const endpoint = `ipc://${join(directory, 'control.sock')}`;
    const server = await ControlServer.listen(endpoint);
    const client = new ControlClient(endpoint, 'rank-3');
    const data = Uint8Array.from({ length: 100_000 }, (_, i) => i % 256);
    const tensor = { dtype: 'uint8' as const, shape: [100_000], data };
    await client.send(encodeMessage({ kind: 'pong', id: 4, progress: 5, awaiting: [1] }));
    for await (const { from, frame } of server.messages()) {
      expect(from).toBe('rank-3');
      expect(decodeFromWorker(frame, from)).toEqual({ kind: 'pong', id: 4, progress: 5, awaiting: [1] });
      break;
    }
    await server.send(
      'rank-3',
      encodeMessage({ kind: 'step', network: 'denoiser', id: 1, micro_batches: [{ x: tensor }], want_outputs: true }),
    );
    for await (const frame of client.messages()) {
      const message = decodeToWorker(frame);
      expect(
        message.kind === 'step' && Buffer.compare(message.micro_batches[0]?.x?.data ?? data.subarray(1), data),
      ).toBe(0);
      break;
    }
    client.close();
    server.close();
  });
});

it.each([
  ['bytes that are not msgpack', Buffer.from([0xc1, 1, 2])],
  ['an empty frame', Buffer.alloc(0)],
  ['another kind of message', encodeMessage({ kind: 'bye' })],
])('refuses %s', (_, frame) => {
  expect(() => decodeToWorker(frame)).toThrow(expect.objectContaining({ code: 'PROTOCOL_MESSAGE' }));
});

it('turns any error into data', () => {
  expect(toProblem(new Error('odd'))).toEqual({ code: 'INTERNAL', message: 'odd', problems: [] });
  expect(toProblem('odd')).toEqual({ code: 'INTERNAL', message: 'odd', problems: [] });
});

it('sees memory that this process takes, and remembers the peak', () => {
  const watch = new MemoryWatch();
  const before = watch.sample();
  let held: Uint8Array | undefined = new Uint8Array(64 << 20).fill(1);
  const during = watch.sample();
  expect(during.private_bytes - before.private_bytes).toBeGreaterThan(48 << 20);
  expect(held.length).toBeGreaterThan(0);
  held = undefined;
  expect(watch.sample().peak_private_bytes).toBeGreaterThanOrEqual(during.private_bytes);
  expect(privateBytes()).toBeGreaterThan(0);
  watch.stop();
});
