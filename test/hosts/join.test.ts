/** Who gets into a cluster of several hosts, and how soon everybody else is told why not. On the loopback. */
import { appendFileSync, chmodSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { afterAll, beforeAll, expect, it } from 'vitest';
import { curveKeyPair, Dealer } from 'zeromq';
import { TandemError } from '#tandem/common/errors.js';
import { Agent, makeKeyFiles } from '#tandem/coordinator/hosts/index.js';
import { JoinPort } from '#tandem/coordinator/hosts/join-port.js';
import { readLeaderKey, readSecret } from '#tandem/coordinator/hosts/key-files.js';
import { decode, encode, type ToHost, toHost } from '#tandem/coordinator/hosts/messages.js';
import { keyBytes, keyText, proofOf } from '#tandem/shard-worker/keys.js';
import { ControlClient } from '#tandem/shard-worker/transport.js';
import { until } from '../cluster/helpers.js';

const REFUSED_WITHIN_MS = 2000;

const scratch = mkdtempSync(join(tmpdir(), 'tandem-join-'));
const keys = join(scratch, 'keys');
const notices: string[] = [];
let port: JoinPort;

beforeAll(async () => {
  makeKeyFiles(keys, ['b', 'c']);
  port = await JoinPort.open({
    config: { seats: [{ name: 'b', isNumbered: false }], listen: 'tcp://127.0.0.1:0', keys, joinMs: 1000 },
    address: '127.0.0.1',
    model: 'emoji-sd',
    heartbeatMs: 1000,
    onNotice: (notice) => notices.push(notice),
  });
});
afterAll(async () => {
  await port.close();
  rmSync(scratch, { recursive: true, force: true });
});

interface Started {
  readonly ended: Promise<unknown>;
  stop(): void;
}

const startHost = (directory: string, over: { readonly name?: string; readonly model?: string } = {}): Started => {
  const stopping = new AbortController();
  const ended = Agent.open({
    endpoint: port.endpoint,
    keys: directory,
    name: 'b',
    address: '127.0.0.1',
    cache: scratch,
    once: true,
    waitMs: 20_000,
    onNotice: () => undefined,
    onState: () => undefined,
    signal: stopping.signal,
    ...over,
  })
    .then((agent) => agent.serve())
    .catch((error: unknown) => error);
  return { ended, stop: () => stopping.abort(new Error('stopped')) };
};

/** With what a host was refused, and after how long. */
const refusal = async (
  started: Started,
): Promise<{ readonly code: string; readonly ms: number; readonly message: string }> => {
  const start = performance.now();
  const error = await started.ended;
  if (!(error instanceof TandemError)) throw new Error(`Expected a refusal, found ${String(error)}.`);
  return { code: error.code, message: error.message, ms: performance.now() - start };
};

it('keys survive their way to bytes and back', () => {
  for (let turn = 0; turn < 50; turn++) {
    const { publicKey } = curveKeyPair();
    expect(keyText(keyBytes(publicKey))).toBe(publicKey);
  }
});

it('two key pairs agree on a proof that no third can make', () => {
  const [leader, host, other] = [curveKeyPair(), curveKeyPair(), curveKeyPair()];
  const proof = proofOf(host.secretKey, leader.publicKey, 'link');
  expect(proofOf(leader.secretKey, host.publicKey, 'link')).toBe(proof);
  expect(proofOf(other.secretKey, leader.publicKey, 'link')).not.toBe(proof);
  expect(proofOf(host.secretKey, leader.publicKey, 'other')).not.toBe(proof);
});

it('makes keys once, adds to them, and refuses a secret that everyone can read', () => {
  const directory = join(scratch, 'more');
  expect(makeKeyFiles(directory, ['x'])).toHaveLength(4);
  const before = readFileSync(join(directory, 'x.secret'), 'utf8');
  expect(makeKeyFiles(directory, ['x', 'y'])).toHaveLength(2);
  expect(readFileSync(join(directory, 'x.secret'), 'utf8')).toBe(before);
  expect(readFileSync(join(directory, 'hosts.public'), 'utf8').trim().split('\n')).toHaveLength(2);
  chmodSync(join(directory, 'x.secret'), 0o644);
  expect(() => readSecret(directory, 'x')).toThrow(/chmod 600/);
});

it('refuses a key that is not listed, by name, at once', async () => {
  const stranger = join(scratch, 'stranger');
  makeKeyFiles(stranger, ['b']);
  // Knows the leader's key, and is not on its list.
  writeFileSync(join(stranger, 'leader.public'), readFileSync(join(keys, 'leader.public')));
  const { code, ms, message } = await refusal(startHost(stranger));
  expect(code).toBe('JOIN_KEY');
  expect(message).toContain(`tandem-public-key b ${readSecret(stranger, 'b').publicKey}`);
  expect(ms).toBeLessThan(REFUSED_WITHIN_MS);
});

it('tells a host that the leader has another key than it was given', async () => {
  const other = join(scratch, 'other');
  makeKeyFiles(other, ['b']);
  const { code, ms } = await refusal(startHost(other));
  expect(code).toBe('JOIN_LEADER_KEY');
  expect(ms).toBeLessThan(REFUSED_WITHIN_MS);
});

it('refuses a host that serves another model', async () => {
  const { code, ms } = await refusal(startHost(keys, { model: 'flux' }));
  expect(code).toBe('JOIN_MODEL');
  expect(ms).toBeLessThan(REFUSED_WITHIN_MS);
});

/** What the leader answers to a first message that no agent of this version sends. */
const answerTo = async (message: Record<string, unknown>): Promise<ToHost | undefined> => {
  const secret = readSecret(keys, 'b');
  const client = new ControlClient(port.endpoint, `host-${Math.random()}`, {
    serverKey: readLeaderKey(keys),
    keys: secret,
  });
  await client.send(encode(message as never));
  const answer = await Promise.race([client.messages().next(), delay(REFUSED_WITHIN_MS, undefined)]);
  client.close();
  return answer === undefined ? undefined : decode(toHost, answer.value as Buffer);
};

const JOIN = {
  kind: 'join',
  protocol: 1,
  versions: { tandem: '0.0.0', workers: 1, onnxruntime: '1', arch: 'x' },
  name: 'b',
  instance: 'i',
  layout: '',
  cores: 1,
  shares_memory: false,
  probe: { endpoint: '', key: '0'.repeat(40) },
  key: '0'.repeat(40),
  proof: '',
};

it.each([
  ['another version', JOIN, 'JOIN_VERSION', /tandem .*, as the leader has; host "b" has 0\.0\.0/],
  ['another join protocol', { kind: 'join', protocol: 99 }, 'JOIN_VERSION', /join protocol 99/],
  ['no first message at all', { kind: 'pong', stopped: [] }, 'JOIN_AGAIN', /./],
])('answers %s by name', async (_, message, code, text) => {
  const answer = await answerTo(message);
  expect(answer).toMatchObject({ kind: 'refused', code });
  expect(answer?.kind === 'refused' ? answer.message : '').toMatch(text);
});

it('lets a listed host in, which a second of its name and strangers without keys do not disturb', async () => {
  const host = startHost(keys);
  await until(() => port.seated.has('b'));
  const second = await refusal(startHost(keys));
  expect(second.code).toBe('JOIN_PLACE');
  expect(second.ms).toBeLessThan(REFUSED_WITHIN_MS);
  const plain = new Dealer({ linger: 0 });
  plain.connect(port.endpoint);
  await plain.send(Buffer.from('hello'));
  const spare = startHost(keys, { name: 'c' });
  await until(() => notices.some((notice) => /"c" has joined as a spare/.test(notice)));
  await delay(300);
  expect(port.seated.get('b')?.join.name).toBe('b');
  expect(notices.filter((notice) => /lost/.test(notice))).toEqual([]);
  plain.close();
  // Its place is the spare's at once.
  host.stop();
  await host.ended;
  await until(() => port.seated.get('b')?.join.name === 'c');
  spare.stop();
  await spare.ended;
});

it('takes a host whose key is listed while it runs', async () => {
  const later = join(scratch, 'later');
  makeKeyFiles(later, ['d']);
  writeFileSync(join(later, 'leader.public'), readFileSync(join(keys, 'leader.public')));
  const line = readFileSync(join(later, 'hosts.public'), 'utf8');
  expect((await refusal(startHost(later, { name: 'd' }))).code).toBe('JOIN_KEY');
  appendFileSync(join(keys, 'hosts.public'), line);
  const host = startHost(later, { name: 'd' });
  await until(() => notices.some((notice) => /"d" has joined/.test(notice)));
  host.stop();
  await host.ended;
});
