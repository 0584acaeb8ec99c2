/** What is measured of a link is what `tc` has set. */
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { pathToFileURL } from 'node:url';
import { expect, it } from 'vitest';
import { curveKeyPair } from 'zeromq';
import { formatWorkerKeys, WORKER_KEYS_VARIABLE } from '#tandem/shard-worker/keys.js';
import { makeNetwork, whyNoNetwork } from './network.js';

const why = whyNoNetwork();
if (why !== undefined) process.stderr.write(`Links are not measured here: ${why}.\n`);

const PROBE = pathToFileURL('dist/coordinator/hosts/link-probe.js').href;
const [SERVER, CLIENT] = [curveKeyPair(), curveKeyPair()];

const program = (before: readonly string[], keys: typeof SERVER, code: string): ChildProcess => {
  const script = `import { measureLink, ProbePort } from ${JSON.stringify(PROBE)};\n${code}`;
  const [command = '', ...words] = [...before, process.execPath, '--input-type=module', '-e', script];
  const given = formatWorkerKeys({ ...keys, serverKey: SERVER.publicKey });
  return spawn(command, words, {
    stdio: ['ignore', 'pipe', 'inherit'],
    env: { ...process.env, [WORKER_KEYS_VARIABLE]: given },
    timeout: 60_000,
  });
};

const firstLine = async (child: ChildProcess): Promise<string> => {
  const [chunk] = await once(child.stdout as NodeJS.ReadableStream, 'data');
  return String(chunk).trim();
};

it.skipIf(why !== undefined).each([10, 100])('measures a link of %d Mbit/s within 15 %%', async (rate) => {
  const network = makeNetwork(2, `${rate}mbit`);
  const server = program(
    network.on(0),
    SERVER,
    `const port = await ProbePort.open('${network.address(0)}'); port.admit([${JSON.stringify(CLIENT.publicKey)}]); console.log(port.endpoint);`,
  );
  try {
    const endpoint = await firstLine(server);
    const client = program(
      network.on(1),
      CLIENT,
      `console.log(JSON.stringify(await measureLink(${JSON.stringify(endpoint)}, ${JSON.stringify(SERVER.publicKey)}))); process.exit(0);`,
    );
    const { wireBytesPerMs } = JSON.parse(await firstLine(client));
    const found = (wireBytesPerMs * 8) / 1000;
    process.stdout.write(`tc set ${rate} Mbit/s, measured ${found.toFixed(1)}\n`);
    expect(Math.abs(found / rate - 1)).toBeLessThan(0.15);
  } finally {
    server.kill('SIGKILL');
    network.remove();
  }
});
