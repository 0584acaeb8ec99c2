import { connect } from 'node:net';
import { setTimeout as delay } from 'node:timers/promises';
import { expect, it } from 'vitest';
import { curveKeyPair, Dealer, Push } from 'zeromq';
import {
  ControlClient,
  ControlServer,
  ExchangeInbox,
  ExchangeOutbox,
  ownKeys,
  refusedConnections,
} from '#tandem/shard-worker/transport.js';
import { mlpInput, until, withCluster } from '../cluster/helpers.js';

const ANY_PORT = 'tcp://127.0.0.1:*';
const portOf = (endpoint: string): number => Number(endpoint.split(':').pop());
const serverKey = (): string => ownKeys().publicKey;
const otherPair = () => {
  const { publicKey, secretKey } = curveKeyPair();
  return { curvePublicKey: publicKey, curveSecretKey: secretKey };
};

it('lets nobody onto a port who has not the key of the launch, whatever is sent, and holds nothing of it', async () => {
  const inbox = await ExchangeInbox.listen(ANY_PORT);
  const heard: string[] = [];
  const listening = (async () => {
    for await (const [header] of inbox.pieces()) heard.push(String(header));
  })();
  const before = process.memoryUsage.rss();
  const plain = new Push({ linger: 0 });
  const guess = new Push({ linger: 0, curveServerKey: curveKeyPair().publicKey, ...otherPair() });
  // Knows the server by name, but is not on its list.
  const unknown = new Push({ linger: 0, curveServerKey: serverKey(), ...otherPair() });
  for (const socket of [plain, guess, unknown]) {
    socket.connect(inbox.endpoint);
    void socket.send(['stranger', Buffer.alloc(400 << 20)].slice(0, socket === plain ? 2 : 1)).catch(() => undefined);
  }
  const browser = connect(portOf(inbox.endpoint), '127.0.0.1').on('error', () => undefined);
  browser.write(`POST / HTTP/1.1\r\ncontent-length: 1000000\r\n\r\n${'A'.repeat(1_000_000)}`);
  await until(() => refusedConnections() > 0);
  const friend = new ExchangeOutbox(inbox.endpoint);
  await friend.send(Buffer.from('friend'), Buffer.from('tensor'));
  await until(() => heard.length > 0);
  await delay(300);
  expect(heard).toEqual(['friend']);
  // The 400 MB lie in the sender's own memory, which is this process's too; twice as much would be in the inbox's as well.
  expect(process.memoryUsage.rss() - before).toBeLessThan(600 << 20);
  browser.destroy();
  for (const socket of [plain, guess, unknown, friend, inbox]) socket.close();
  await listening;
});

it('listens on a port again as soon as the one before is closed', async () => {
  for (let time = 0; time < 50; time++) (await ExchangeInbox.listen(ANY_PORT)).close();
});

it('lets no stranger command a worker, or speak for one', async () => {
  const server = await ControlServer.listen(ANY_PORT);
  const heard: string[] = [];
  void (async () => {
    for await (const { from } of server.messages()) heard.push(from);
  })();
  const stranger = new Dealer({ linger: 0, routingId: 'rank-0' });
  stranger.connect(server.endpoint);
  await stranger.send('hello');
  const worker = new ControlClient(server.endpoint, 'rank-1');
  await worker.send(Buffer.from('hello'));
  await until(() => heard.length > 0);
  await delay(200);
  expect(heard).toEqual(['rank-1']);
  for (const socket of [stranger, worker, server]) socket.close();
});

it('steps over tcp as ever', async () => {
  await withCluster(
    'mlp-2',
    async (cluster) => {
      const { ranks } = await cluster.step([mlpInput()]);
      expect(new Set(ranks.map(({ outputs_sha256 }) => outputs_sha256)).size).toBe(1);
    },
    { transport: 'tcp' },
  );
});
