import { type ChildProcess, spawn } from 'node:child_process';
import { existsSync } from 'node:fs';
import { chmod, mkdir, readdir, readFile, rm, symlink, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import { expect, it } from 'vitest';
import { openPrivateLog, readPrivate } from '#tandem/shard-worker/private-files.js';
import type { FromWorker, ToWorker } from '#tandem/shard-worker/protocol.js';
import { newSession, Seal, SealBreaker } from '#tandem/shard-worker/seal.js';
import { ControlServer } from '#tandem/shard-worker/transport.js';
import { decodeFromWorker, encodeMessage } from '#tandem/shard-worker/wire.js';
import { errorOf, isAlive, launchFixture, withDirectory } from './helpers.js';

const WORKER = fileURLToPath(new URL('../../dist/shard-worker/main.js', import.meta.url));
const KEEP_WARM_MS = 10_000;

it('refuses a runtime directory that a link leads to, and touches nothing behind it', async () => {
  await withDirectory(async (directory) => {
    const [victim, link] = [join(directory, 'victim'), join(directory, 'link')] as const;
    await mkdir(victim, { mode: 0o700 });
    await writeFile(join(victim, 'rank-1.log'), 'precious');
    await symlink(victim, link);
    for (const place of [link, join(link, 'cluster'), join(link, 'a', 'b')]) {
      const error = await errorOf(launchFixture('mlp-2', { detached: { directory: place, keepWarmMs: KEEP_WARM_MS } }));
      expect([error.code, error.message]).toEqual(['RUNTIME_DIRECTORY', expect.stringMatching(/is a link/)]);
    }
    expect(await readdir(victim)).toEqual(['rank-1.log']);
  });
});

it('refuses a runtime directory below one that others can rename things in', async () => {
  await withDirectory(async (directory) => {
    await chmod(directory, 0o777);
    const detached = { directory: join(directory, 'cluster'), keepWarmMs: KEEP_WARM_MS };
    const error = await errorOf(launchFixture('mlp-2', { detached }));
    expect([error.code, error.message]).toEqual(['RUNTIME_DIRECTORY', expect.stringMatching(/written to by others/)]);
  });
});

it('opens no log and no token through a link, and empties nothing that has another name or another reader', async () => {
  await withDirectory(async (directory) => {
    const [secret, link] = [join(directory, 'secret'), join(directory, 'rank-1.log')] as const;
    await writeFile(secret, 'precious', { mode: 0o600 });
    await symlink(secret, link);
    expect(() => openPrivateLog(link)).toThrow(/is a link/);
    expect(() => readPrivate(link)).toThrow(/is a link/);
    await chmod(secret, 0o644);
    expect(() => openPrivateLog(secret)).toThrow(/its mode is 0644/);
    expect(await readFile(secret, 'utf8')).toBe('precious');
  });
});

/** A detached worker whose coordinator is gone, with this test listening in its place. */
interface Orphan {
  readonly child: ChildProcess;
  readonly send: (order: ToWorker | Uint8Array) => Promise<void>;
  readonly next: () => Promise<FromWorker>;
}

const TOKEN = 'the secret of the directory';

const withOrphan = (work: (orphan: Orphan) => Promise<void>): Promise<void> =>
  withDirectory(async (directory) => {
    await writeFile(join(directory, 'token'), TOKEN, { mode: 0o600 });
    const control = `ipc://${join(directory, 'control.sock')}`;
    const exchange = `ipc://${join(directory, 'rank-0.sock')}`;
    const server = await ControlServer.listen(control);
    const place = ['--control', control, '--exchange', exchange, '--detached', directory];
    const child = spawn(process.execPath, [WORKER, '--rank', '0', ...place, '--keep-warm-ms', '10000'], {
      stdio: 'ignore',
      env: { ...process.env, TANDEM_WORKER_TOKEN: TOKEN },
    });
    const messages = server.messages();
    try {
      await work({
        child,
        send: (order) => server.send('0', order instanceof Uint8Array ? order : encodeMessage(order)),
        next: async () => decodeFromWorker((await messages.next()).value?.frame ?? Buffer.alloc(0), 'rank 0'),
      });
    } finally {
      child.kill('SIGKILL');
      server.close();
    }
  });

const challengeOf = async ({ send, next }: Orphan, session: string): Promise<string> => {
  await send({ kind: 'knock', session });
  const message = await next();
  return message.kind === 'challenge' && message.session === session ? message.challenge : '';
};

it('obeys no order, not even a ping or a shutdown, that is not sealed with the token', async () => {
  await withOrphan(async (orphan) => {
    const { child, send, next } = orphan;
    expect(await next()).toMatchObject({ kind: 'hello' });
    const session = newSession();
    const attach = { kind: 'attach', session, keep_warm_ms: 10_000 } as const;
    const forged = new Seal('a guess', await challengeOf(orphan, session), session);
    for (const order of [{ kind: 'ping', id: 1 } as const, { kind: 'shutdown' } as const, attach]) {
      await send(order);
      expect(await next()).toMatchObject({ kind: 'failed', error: { code: 'WORKER_TOKEN' } });
      await send(forged.seal(encodeMessage(order)));
      expect(await next()).toMatchObject({ kind: 'failed' });
    }
    await delay(100);
    expect(isAlive(child.pid ?? 0)).toBe(true);
    const seal = new Seal(TOKEN, await challengeOf(orphan, session), session);
    await send(seal.seal(encodeMessage(attach)));
    expect(await next()).toMatchObject({ kind: 'hello', session, last_step: 0 });
    const ping = seal.seal(encodeMessage({ kind: 'ping', id: 7 }));
    await send(ping);
    expect(await next()).toMatchObject({ kind: 'pong', id: 7 });
    await send(ping);
    expect(await next()).toMatchObject({ kind: 'failed' });
  });
});

it('takes a sealed order once, from one session, and for one worker', () => {
  const order = Buffer.from('order');
  const [first, second] = [new SealBreaker(TOKEN), new SealBreaker(TOKEN)];
  const session = newSession();
  const earlier = first.challenge;
  const seal = new Seal(TOKEN, earlier, session);
  const sealed = seal.seal(order);
  expect(second.open(sealed)).toBeUndefined();
  expect(first.open(sealed)).toEqual(order);
  expect(first.open(sealed)).toBeUndefined();
  expect(first.open(seal.seal(order))).toEqual(order);
  // What the challenge of a session that has begun would seal is of no use for another one.
  expect(first.open(new Seal(TOKEN, earlier, newSession()).seal(order))).toBeUndefined();
  expect(first.open(new Seal(TOKEN, first.challenge, newSession()).seal(order))).toEqual(order);
  expect(first.open(seal.seal(order))).toBeUndefined();
  for (const bytes of [0, 1, 55, 56, 57]) expect(first.open(Buffer.alloc(bytes))).toBeUndefined();
});

it('starts again where a lock file says nothing that can be read, and where a link stands in its place', async () => {
  await withDirectory(async (directory) => {
    const detached = { directory, keepWarmMs: KEEP_WARM_MS };
    const first = await launchFixture('mlp-2', { detached });
    const [key = ''] = await readdir(directory);
    await first.close();
    await mkdir(join(directory, key), { recursive: true, mode: 0o700 });
    await chmod(directory, 0o700);
    const other = join(directory, 'other');
    await writeFile(other, 'precious');
    await symlink(other, join(directory, key, 'coordinator.lock'));
    const second = await launchFixture('mlp-2', { detached });
    await second.close();
    expect(await readFile(other, 'utf8')).toBe('precious');
    expect(existsSync(join(directory, key))).toBe(false);
    await rm(other);
  });
});
