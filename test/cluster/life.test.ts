import { describe, expect, it } from 'vitest';
import { excusePause, overdue, pingInterval, type Timeouts } from '#tandem/coordinator/cluster/watch.js';
import {
  afterMessage,
  born,
  found,
  type LifeEvent,
  newborn,
  transition,
  type WorkerLife,
} from '#tandem/coordinator/cluster/worker-life.js';
import { type FromWorker, PROTOCOL_VERSION } from '#tandem/shard-worker/protocol.js';

const MEMORY = { private_bytes: 1, peak_private_bytes: 2, mapped_bytes: 3 };
const TIMES = { total_ms: 1, compute_ms: 1, exchange_ms: 0, sent_bytes: 0, copied_bytes: 0 };
const hello = (over: Partial<Extract<FromWorker, { kind: 'hello' }>> = {}): FromWorker => ({
  kind: 'hello',
  rank: 1,
  pid: 5,
  protocol_version: PROTOCOL_VERSION,
  exchange_endpoint: 'ipc:///tmp/a.sock',
  ...over,
});
const loaded: FromWorker = { kind: 'loaded', load_ms: 3, weight_bytes: 4, memory: MEMORY };
const stepDone = (id: number): FromWorker => ({
  kind: 'step_done',
  id,
  outputs_sha256: '',
  times: TIMES,
  memory: MEMORY,
});
const message = (content: FromWorker): LifeEvent => ({ kind: 'message', message: content });
const live = (...events: LifeEvent[]): WorkerLife =>
  events.reduce((life, event, index) => transition(1, life, event, 10 * (index + 1)), born(0));
const errorIn = (life: WorkerLife): string =>
  life.kind === 'failed' ? `${life.error.code}: ${life.error.message}` : life.kind;

const READY = [message(hello()), message(loaded)];
const exited: LifeEvent = { kind: 'exited', exit: { code: 3, signal: null }, stderr: ['out of memory'] };

describe('the life of a worker', () => {
  it('goes from starting over loading, ready and stepping back to ready', () => {
    expect(live()).toEqual({ kind: 'starting', since: 0 });
    expect(live(message(hello()))).toEqual({ kind: 'loading', since: 10, exchangeEndpoint: 'ipc:///tmp/a.sock' });
    const facts = { weight_bytes: 4, load_ms: 3 };
    expect(live(...READY)).toEqual({ kind: 'ready', loaded: facts });
    expect(live(...READY, { kind: 'step_sent', step: 7 })).toEqual({ kind: 'stepping', loaded: facts, step: 7 });
    expect(live(...READY, { kind: 'step_sent', step: 7 }, message(stepDone(7)))).toEqual({
      kind: 'ready',
      loaded: facts,
    });
  });

  it('does not change with progress and pongs', () => {
    const before = live(...READY);
    expect(transition(1, before, message({ kind: 'pong', id: 1, progress: 2, awaiting: [] }), 99)).toBe(before);
    expect(transition(1, before, message({ kind: 'progress', phase: 'load', done: 1, total: 2 }), 99)).toBe(before);
  });

  it.each([
    ['loaded before hello', live(message(loaded)), /"loaded" while it was starting/],
    ['a second hello', live(message(hello()), message(hello())), /"hello" while it was loading/],
    ['the end of a step that nobody asked for', live(...READY, message(stepDone(1))), /"step_done" while it was ready/],
    [
      'the end of another step',
      live(...READY, { kind: 'step_sent', step: 2 }, message(stepDone(1))),
      /"step_done" while it was stepping/,
    ],
    ['goodbye unasked', live(...READY, message({ kind: 'bye' })), /"bye" while it was ready/],
    ['another rank', live(message(hello({ rank: 0 }))), /hello of rank 0/],
    [
      'another protocol version',
      live(message(hello({ protocol_version: 99 }))),
      new RegExp(`protocol version 99, expected version ${PROTOCOL_VERSION}`),
    ],
  ])('fails on %s', (_, life, text) => {
    expect(errorIn(life)).toMatch(/^WORKER_FAILED/);
    expect(errorIn(life)).toMatch(text);
  });

  it('is interrupted in a step, and reset to ready', () => {
    const facts = { weight_bytes: 4, load_ms: 3 };
    const struck = live(...READY, { kind: 'step_sent', step: 7 }, { kind: 'interrupted' });
    expect(struck).toEqual({ kind: 'interrupted', loaded: facts });
    expect(live(...READY, { kind: 'interrupted' })).toEqual({ kind: 'ready', loaded: facts });
    const reset: LifeEvent = { kind: 'reset_sent', generation: 2 };
    const resetting = transition(1, struck, reset, 99);
    expect(resetting).toEqual({ kind: 'resetting', loaded: facts, generation: 2 });
    // It had finished the step before it heard that others could not.
    expect(transition(1, struck, message(stepDone(7)), 99)).toBe(struck);
    expect(transition(1, resetting, message(stepDone(7)), 99)).toBe(resetting);
    const done = (generation: number): LifeEvent => message({ kind: 'reset_done', generation, memory: MEMORY });
    expect(transition(1, resetting, done(2), 99)).toEqual({ kind: 'ready', loaded: facts });
    expect(errorIn(transition(1, resetting, done(1), 99))).toMatch(/"reset_done" while it was resetting/);
    expect(errorIn(live(reset))).toMatch(/"reset_sent" while it was starting/);
  });

  it('is taken over only with the right shards, and only by its answer to this coordinator', () => {
    const network = { name: 'denoiser', manifest_sha256: 'a', profile: 'p' };
    const wanted = { networks: [network] };
    const shard = { ...wanted, weight_bytes: 4, load_ms: 3, steps: 5, memory: MEMORY };
    const attaching = found(0, 'mine', wanted);
    const answer = (over: Parameters<typeof hello>[0]): string =>
      errorIn(transition(1, attaching, message(hello({ session: 'mine', loaded: shard, ...over })), 1));
    expect(answer({})).toBe('ready');
    expect(answer({ session: 'another' })).toBe('attaching');
    expect(errorIn(transition(1, attaching, message(stepDone(7)), 1))).toBe('attaching');
    expect(answer({ loaded: undefined })).toMatch(/^WORKER_NOT_ADOPTED.*has not loaded its shard/);
    expect(answer({ loaded: { ...shard, networks: [{ ...network, manifest_sha256: 'b' }] } })).toMatch(
      /has loaded other shards/,
    );
    expect(answer({ loaded: { ...shard, networks: [{ ...network, profile: 'q' }] } })).toMatch(
      /has loaded profile "q"/,
    );
    expect(answer({ loaded: { ...shard, networks: [network, { ...network, name: 'vae_decoder' }] } })).toMatch(
      /has loaded denoiser, vae_decoder/,
    );
    expect(answer({ protocol_version: 99 })).toMatch(/speaks protocol version 99/);
    expect(answer({ rank: 0 })).toMatch(/is rank 0/);
  });

  it('tells a worker that never started from one that died later', () => {
    expect(errorIn(live(exited))).toMatch(/^WORKER_START: .*rank 1 exited with code 3 .*out of memory/);
    expect(errorIn(live(...READY, exited))).toMatch(/^WORKER_DIED: .*rank 1 exited with code 3.*out of memory/);
  });

  it('is over once failed or closed, whatever comes after', () => {
    const failed = live(...READY, exited);
    expect(transition(1, failed, message(loaded), 99)).toBe(failed);
    const closed = live(...READY, { kind: 'dismissed' });
    expect(closed).toEqual({ kind: 'closed' });
    expect(transition(1, closed, exited, 99)).toBe(closed);
  });
});

describe('the watch over workers', () => {
  const timeouts: Timeouts = { startMs: 100, loadMs: 1000, stepMs: 500, heartbeatMs: 60 };
  const health = newborn(0);
  const codeAt = (life: WorkerLife, now: number, over = {}): string | undefined =>
    overdue(1, life, { ...health, ...over }, timeouts, now)?.code;

  it('waits startMs for the first message, and no ping before it', () => {
    expect(codeAt(live(), 100)).toBeUndefined();
    expect(codeAt(live(), 101)).toBe('WORKER_START');
  });

  it('takes silence for a lost worker in every later state', () => {
    const stepping = live(...READY, { kind: 'step_sent', step: 1 });
    for (const life of [live(message(hello())), live(...READY), stepping]) {
      expect(codeAt(life, 60)).toBeUndefined();
      expect(codeAt(life, 61)).toBe('WORKER_UNRESPONSIVE');
    }
  });

  it('takes a load that outlasts loadMs, and a step without progress for stepMs, for stalled', () => {
    expect(codeAt(live(message(hello())), 1011, { heardAt: 1011 })).toBe('WORKER_STALLED');
    const stepping = live(...READY, { kind: 'step_sent', step: 1 });
    expect(codeAt(stepping, 501, { heardAt: 501 })).toBe('WORKER_STALLED');
    expect(codeAt(stepping, 501, { heardAt: 501, progressAt: 400 })).toBeUndefined();
  });

  it('does not blame a rank that waits for another', () => {
    const stepping = live(...READY, { kind: 'step_sent', step: 1 });
    expect(codeAt(stepping, 501, { heardAt: 501, awaiting: [0] })).toBeUndefined();
  });

  it('counts progress only when it rises', () => {
    const pong = (progress: number): FromWorker => ({ kind: 'pong', id: 1, progress, awaiting: [0] });
    const risen = afterMessage(health, pong(1), 10);
    expect(risen).toMatchObject({ heardAt: 10, progressAt: 10, progress: 1, awaiting: [0] });
    expect(afterMessage(risen, pong(1), 20)).toMatchObject({ heardAt: 20, progressAt: 10 });
  });

  it('forgives a pause of the coordinator and pings several times per heartbeat', () => {
    expect(excusePause(health, 40)).toMatchObject({ heardAt: 40, progressAt: 40 });
    expect(pingInterval({ ...timeouts, heartbeatMs: 3000 })).toBe(250);
    expect(pingInterval({ ...timeouts, heartbeatMs: 600 })).toBe(100);
  });
});
