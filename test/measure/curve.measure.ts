/**
 * What CURVE costs on a link between two hosts: `npm run measure -- curve`, as root on Linux. Pieces of 1 MB, as the exchange sends
 * them, from one network namespace to another, in the clear and with CURVE, in turns; the ratio is of the medians.
 */
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { createRequire } from 'node:module';
import { it } from 'vitest';
import { curveKeyPair } from 'zeromq';
import { makeNetwork, type TestNetwork, whyNoNetwork } from '../hosts/network.js';

const ZEROMQ = createRequire(import.meta.url).resolve('zeromq');
const PIECES = 64;
const TURNS = 5;
const [SERVER, CLIENT] = [curveKeyPair(), curveKeyPair()];

const program = (before: readonly string[], code: string) => {
  const [command = '', ...words] = [
    ...before,
    process.execPath,
    '-e',
    `const z = require(${JSON.stringify(ZEROMQ)});${code}`,
  ];
  return spawn(command, words, { stdio: ['ignore', 'pipe', 'inherit'], timeout: 120_000 });
};

const RECEIVE = (address: string, options: string): string => `(async () => {
  const s = new z.Pull({ receiveHighWaterMark: 8, ...${options} });
  await s.bind('tcp://${address}:*'); console.log(s.lastEndpoint);
  await s.receive(); const start = performance.now();
  for (let i = 0; i < ${PIECES}; i++) await s.receive();
  console.log(performance.now() - start); process.exit(0);
})()`;

const SEND = (endpoint: string, options: string): string => `(async () => {
  const s = new z.Push({ sendHighWaterMark: 8, ...${options} });
  s.connect('${endpoint}'); const piece = Buffer.alloc(1 << 20);
  for (let i = 0; i <= ${PIECES}; i++) await s.send(piece);
  setTimeout(() => process.exit(0), 10000);
})()`;

/** MB/s */
const rateOf = async (network: TestNetwork, isSealed: boolean): Promise<number> => {
  const server = isSealed ? { curveServer: true, curveSecretKey: SERVER.secretKey } : {};
  const client = isSealed
    ? { curveServerKey: SERVER.publicKey, curvePublicKey: CLIENT.publicKey, curveSecretKey: CLIENT.secretKey }
    : {};
  const receiver = program(network.on(0), RECEIVE(network.address(0), JSON.stringify(server)));
  const [endpoint] = await once(receiver.stdout, 'data');
  const sender = program(network.on(1), SEND(String(endpoint).trim(), JSON.stringify(client)));
  const [ms] = await once(receiver.stdout, 'data');
  sender.kill('SIGKILL');
  return PIECES / (Number(String(ms)) / 1000);
};

const median = (values: readonly number[]): number => values.toSorted((a, b) => a - b)[values.length >> 1] ?? 0;

const why = whyNoNetwork();
if (why !== undefined) process.stderr.write(`CURVE is not measured here: ${why}.\n`);

it.skipIf(why !== undefined).each([
  ['1 Gbit/s', '1gbit'],
  ['unlimited', undefined],
])('CURVE over a link: %s', async (name, rate) => {
  const network = makeNetwork(2, rate);
  try {
    const [plain, sealed]: [number[], number[]] = [[], []];
    for (let turn = 0; turn < TURNS; turn++) {
      plain.push(await rateOf(network, false));
      sealed.push(await rateOf(network, true));
    }
    const [clear, curve] = [median(plain), median(sealed)];
    process.stdout.write(
      `${name}: in the clear ${clear.toFixed(0)} MB/s, with CURVE ${curve.toFixed(0)} MB/s; an exchange takes ${(clear / curve).toFixed(2)} times as long\n`,
    );
  } finally {
    network.remove();
  }
});
