import { type ChildProcess, spawn } from 'node:child_process';
import { createHash } from 'node:crypto';
import { once } from 'node:events';
import { existsSync } from 'node:fs';
import { readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import { expect, it } from 'vitest';
import type { FromWorker, ToWorker } from '#tandem/shard-worker/protocol.js';
import { ControlServer } from '#tandem/shard-worker/transport.js';
import { decodeFromWorker, encodeMessage } from '#tandem/shard-worker/wire.js';
import {
  fixture,
  isAlive,
  iterations,
  LONG_STEP,
  mlpInput,
  until,
  withCopy,
  withDirectory,
} from '../cluster/helpers.js';

const ENTRY = fileURLToPath(new URL('../../dist/shard-worker/main.js', import.meta.url));

/** A worker process with this test as its coordinator. */
interface Rig {
  readonly child: ChildProcess;
  readonly endpoint: string;
  readonly exchange: string;
  readonly send: (message: ToWorker | Buffer) => Promise<void>;
  /** The next message of that kind; messages before it are skipped. */
  readonly next: <K extends FromWorker['kind']>(kind: K) => Promise<Extract<FromWorker, { kind: K }>>;
  readonly load: (over?: LoadChanges) => Promise<void>;
}

type LoadOrder = Extract<ToWorker, { kind: 'load' }>;
/** One network is loaded; of it and of the order the rest. */
type LoadChanges = Partial<Omit<LoadOrder, 'networks'> & LoadOrder['networks'][number]>;

const withWorker = (work: (rig: Rig) => Promise<void>): Promise<void> =>
  withDirectory(async (directory) => {
    const [endpoint, exchange] = ['control', 'rank-0'].map((name) => `ipc://${join(directory, `${name}.sock`)}`) as [
      string,
      string,
    ];
    const server = await ControlServer.listen(endpoint);
    const child = spawn(process.execPath, [ENTRY, '--rank', '0', '--control', endpoint, '--exchange', exchange], {
      stdio: ['pipe', 'ignore', 'inherit'],
    });
    const messages = server.messages();
    const next: Rig['next'] = async (kind) => {
      for (;;) {
        const { value } = await messages.next();
        const message = decodeFromWorker((value as { frame: Buffer }).frame, 'rank 0');
        if (message.kind === kind) return message as never;
      }
    };
    const send: Rig['send'] = (message) =>
      server.send('0', Buffer.isBuffer(message) ? message : encodeMessage(message));
    const load: Rig['load'] = ({ shard_directory = fixture('mlp-2'), profile = 'static', ...over } = {}) =>
      send({
        kind: 'load',
        networks: [{ name: 'denoiser', shard_directory, profile, members: [0, 1] }],
        provider: 'cpu',
        device_id: 0,
        threads: 1,
        peers: [exchange, `ipc://${join(directory, 'rank-1.sock')}`],
        exchange_timeout_ms: 300,
        ...over,
      });
    try {
      await next('hello');
      await work({ child, endpoint, exchange, send, next, load });
    } finally {
      if (child.exitCode === null && child.signalCode === null) {
        child.kill('SIGKILL');
        await once(child, 'exit');
      }
      server.close();
    }
  });

const problemOf = async (rig: Rig): Promise<string> => {
  const { error } = await rig.next('failed');
  return `${error.code}: ${error.message}`;
};

/** Keeps a worker of the `slow` fixture busy. */
const longStep = () => ({
  kind: 'step' as const,
  id: 1,
  network: 'denoiser',
  micro_batches: [iterations(LONG_STEP)],
  want_outputs: false,
});

it('answers pings at once while a segment runs', async () => {
  await withWorker(async (rig) => {
    await rig.load({ shard_directory: fixture('slow') });
    await rig.next('loaded');
    await rig.send(longStep());
    await delay(200);
    for (let id = 0; id < 20; id += 1) {
      const start = performance.now();
      await rig.send({ kind: 'ping', id });
      expect((await rig.next('pong')).id).toBe(id);
      expect(performance.now() - start).toBeLessThan(500);
    }
  });
});

it('ends at once when its coordinator is gone, even while a segment runs, and removes its socket', async () => {
  await withWorker(async (rig) => {
    await rig.load({ shard_directory: fixture('slow') });
    await rig.next('loaded');
    await rig.send(longStep());
    await delay(200);
    rig.child.stdin?.destroy();
    await until(() => !isAlive(rig.child.pid ?? 0), 2000);
    expect(existsSync(rig.exchange.slice('ipc://'.length))).toBe(false);
  });
});

it('says goodbye and exits with 0 when told to, and outlives Ctrl-C before that', async () => {
  await withWorker(async (rig) => {
    rig.child.kill('SIGINT');
    await delay(50);
    await rig.load();
    await rig.next('loaded');
    await rig.send({ kind: 'shutdown' });
    await rig.next('bye');
    const [code] = await once(rig.child, 'exit');
    expect(code).toBe(0);
  });
});

it('answers garbage with an error and goes on', async () => {
  await withWorker(async (rig) => {
    for (const garbage of [Buffer.from([0xc1]), Buffer.from('hello'), encodeMessage({ kind: 'bye' })]) {
      await rig.send(garbage);
      expect(await problemOf(rig)).toMatch(/^PROTOCOL_MESSAGE/);
    }
    await rig.send({ kind: 'ping', id: 9 });
    expect((await rig.next('pong')).id).toBe(9);
  });
});

it('refuses a step before load, a second load, and inputs that do not fit', async () => {
  await withWorker(async (rig) => {
    const step = { kind: 'step' as const, id: 1, network: 'denoiser', micro_batches: [mlpInput()], want_outputs: true };
    await rig.send(step);
    expect(await problemOf(rig)).toMatch(/^PROTOCOL_ORDER: Expected "load" before "step"/);
    await rig.load();
    await rig.next('loaded');
    await rig.load();
    expect(await problemOf(rig)).toMatch(/^PROTOCOL_ORDER: Expected one "load"/);
    await rig.send({ ...step, network: 'vae_decoder' });
    expect(await problemOf(rig)).toMatch(
      /^PROTOCOL_NETWORK: Expected a step of "denoiser".*found one of "vae_decoder"/,
    );
    await rig.send({ ...step, micro_batches: [{}] });
    expect(await problemOf(rig)).toMatch(/^STEP_INPUTS: .*"x" \(float32 \[2, 8\]\) is missing/);
  });
});

it('abandons a step that waits for a peer when it is reset, says nothing of it, and can step again', async () => {
  await withWorker(async (rig) => {
    await rig.load();
    await rig.next('loaded');
    const step = { kind: 'step' as const, network: 'denoiser', micro_batches: [mlpInput()], want_outputs: true };
    const peers = [rig.exchange, `${rig.exchange}.new`];
    const reset = { kind: 'reset' as const, generation: 4, peers, exchange_timeout_ms: 400 };
    await rig.send({ ...step, id: 1 });
    await delay(100);
    await rig.send({ ...reset, after_step: 1 });
    expect((await rig.next('reset_done')).generation).toBe(4);
    // Longer than the first step's own limit: had it gone on, it would have failed by now.
    await delay(400);
    await rig.send({ ...step, id: 2 });
    expect(await problemOf(rig)).toMatch(/^EXCHANGE_TIMEOUT: Rank 0 waited 400 ms in step\/segment 2\.0\/0/);
    await rig.send({ ...reset, after_step: 2, peers: [rig.exchange] });
    expect(await problemOf(rig)).toMatch(/^SHARD_WORLD_SIZE/);
  });
});

it('refuses a reset before it has loaded, and to be taken over when it ends with its coordinator', async () => {
  await withWorker(async (rig) => {
    await rig.send({ kind: 'reset', generation: 1, peers: [], exchange_timeout_ms: 1, after_step: 0 });
    expect(await problemOf(rig)).toMatch(/^PROTOCOL_ORDER: Expected "load" before "reset"/);
    for (const order of [
      { kind: 'attach', session: 'y', keep_warm_ms: 1 },
      { kind: 'knock', session: 'y' },
    ] as const) {
      await rig.send(order);
      expect(await problemOf(rig)).toMatch(/^WORKER_TOKEN: .*ends with its coordinator/);
    }
  });
});

it('gives up on a peer that never sends, and names it', async () => {
  await withWorker(async (rig) => {
    await rig.load();
    await rig.next('loaded');
    await rig.send({ kind: 'step', id: 1, network: 'denoiser', micro_batches: [mlpInput()], want_outputs: true });
    expect(await problemOf(rig)).toMatch(/^EXCHANGE_TIMEOUT: Rank 0 waited 300 ms .*"partial_1" from rank 1/);
  });
});

it.each<[string, LoadChanges, RegExp]>([
  ['a directory that is not there', { shard_directory: '/nowhere' }, /^SHARD_DIRECTORY_MISSING/],
  ['a profile that is not there', { profile: 'batch=3' }, /^SHARD_PROFILE_MISSING/],
  ['another number of ranks', { peers: ['ipc:///tmp/a'] }, /^SHARD_WORLD_SIZE/],
  ['a peer on another machine', { peers: ['ipc:///tmp/a', 'tcp://10.0.0.1:5'] }, /^ENDPOINT_NOT_LOCAL/],
  [
    'a provider of another system',
    { provider: process.platform === 'darwin' ? 'dml' : 'coreml' },
    /^PROVIDER_UNAVAILABLE.*this build of ONNX Runtime has cpu/,
  ],
])('refuses to load with %s', async (_, over, text) => {
  await withWorker(async (rig) => {
    await rig.load(over);
    expect(await problemOf(rig)).toMatch(text);
  });
});

it('says what is wrong when a graph is not the one that the manifest describes', async () => {
  await withCopy('mlp-2', async (directory) => {
    const graph = await readFile(join(directory, 'rank-0', 'segment-2.onnx'));
    const path = join(directory, 'manifest.json');
    const manifest = JSON.parse(await readFile(path, 'utf8'));
    const entry = manifest.files.find((file: { path: string }) => file.path === 'rank-0/segment-0.onnx');
    Object.assign(entry, { bytes: graph.length, sha256: createHash('sha256').update(graph).digest('hex') });
    await writeFile(join(directory, 'rank-0', 'segment-0.onnx'), graph);
    await writeFile(path, JSON.stringify(manifest));
    await withWorker(async (rig) => {
      await rig.load({ shard_directory: directory });
      expect(await problemOf(rig)).toMatch(
        /^SEGMENT_MISMATCH: .*input "part" is not provided.*output "partial" is missing/,
      );
    });
  });
});
