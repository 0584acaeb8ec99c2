/** Two and three hosts, each in a network namespace with a cache of its own, make the picture that one host makes. */
import { mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, expect, it } from 'vitest';
import { readManifest } from '#tandem/partition/write/read-manifest.js';
import { rankFiles } from '#tandem/shard-worker/check.js';
import { CPU, generateArguments, startProgram, writeConfig } from './helpers.js';
import { cacheOf, makeNetwork, type TestNetwork, whyNoNetwork } from './network.js';

const why = whyNoNetwork();
if (why !== undefined) process.stderr.write(`Several hosts are not tested here: ${why}.\n`);

const scratch = mkdtempSync(join(tmpdir(), 'tandem-hosts-'));
afterAll(() => rmSync(scratch, { recursive: true, force: true }));
const file = (name: string): string => join(scratch, name);

const makeKeys = async (names: readonly string[]): Promise<void> => {
  const hosts = names.flatMap((name) => ['--host', name]);
  expect(await startProgram(['keys', file('keys'), ...hosts], scratch).ended).toBe(0);
};

const onOneHost = async (devices: number): Promise<Buffer> => {
  const config = writeConfig(scratch, `one-${devices}`, [`devices: [${Array(devices).fill(CPU).join(', ')}]`]);
  const out = file(`one-${devices}.png`);
  const made = startProgram(generateArguments(config, out), cacheOf(scratch, 0));
  expect(await made.ended, made.text()).toBe(0);
  return readFileSync(out);
};

interface Made {
  readonly picture: Buffer;
  /** Bytes that came to each further host. */
  readonly received: readonly number[];
  readonly said: string;
}

/** One picture by a leader on host 0 and further hosts, which end with it. */
const onHosts = async (network: TestNetwork, names: readonly string[]): Promise<Made> => {
  const config = writeConfig(scratch, `hosts-${names.length}`, [
    `devices: [${CPU}]`,
    `hosts: [${names.map((name) => `{ name: ${name}, devices: [${CPU}] }`).join(', ')}]`,
    `join: { keys: keys, address: ${network.address(0)} }`,
  ]);
  const before = names.map((_, index) => network.receivedBytes(index + 1));
  const workers = names.map((name, index) => {
    const host = index + 1;
    const args = ['worker', '--join', `tcp://${network.address(0)}:7070`, '--keys', file('keys'), '--name', name];
    return startProgram([...args, '--once'], cacheOf(scratch, host), network.on(host, [cacheOf(scratch, 0)]));
  });
  const out = file(`hosts-${names.length}.png`);
  const leader = startProgram(generateArguments(config, out), cacheOf(scratch, 0), network.on(0));
  const statuses = await Promise.all([leader, ...workers].map(({ ended }) => ended));
  const said = [leader, ...workers].map(({ text }) => text()).join('\n');
  expect(statuses, said).toEqual(statuses.map(() => 0));
  const received = names.map((_, index) => network.receivedBytes(index + 1) - (before[index] ?? 0));
  return { picture: readFileSync(out), received, said };
};

const receivedDirectory = (host: number): string => {
  const root = join(cacheOf(scratch, host), 'tandem', 'received');
  return join(root, readdirSync(root)[0] ?? '');
};

it.skipIf(why !== undefined).each([[['b']], [['b', 'c']]])(
  'hosts %j make the picture of one host to the byte, get their own ranks only, and nothing the second time',
  async (names) => {
    for (const host of [1, 2]) rmSync(cacheOf(scratch, host), { recursive: true, force: true });
    mkdirSync(cacheOf(scratch, 0), { recursive: true });
    await makeKeys(names);
    const expected = await onOneHost(names.length + 1);
    const network = makeNetwork(names.length + 1);
    try {
      const first = await onHosts(network, names);
      expect(first.picture.equals(expected)).toBe(true);
      const second = await onHosts(network, names);
      expect(second.picture.equals(expected)).toBe(true);
      for (const [index, name] of names.entries()) {
        const directory = receivedDirectory(index + 1);
        const manifest = await readManifest(directory);
        const folder = manifest.ranks[index + 1]?.folder ?? '';
        expect(readdirSync(directory).sort(), name).toEqual(['manifest.json', folder].sort());
        const bytes = rankFiles(manifest, index + 1).reduce((sum, one) => sum + one.bytes, 0);
        const saved = (first.received[index] ?? 0) - (second.received[index] ?? 0);
        process.stdout.write(
          `host ${name}: rank's files ${bytes} bytes; received ${first.received[index]} at first, ${second.received[index]} then\n`,
        );
        // Both made the same picture; what differs is the files, with the manifest and the heads of packets.
        expect(saved).toBeGreaterThan(bytes * 0.9);
        expect(saved).toBeLessThan(bytes * 1.25 + 1_000_000);
      }
    } finally {
      network.remove();
    }
  },
);
