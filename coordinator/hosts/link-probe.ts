/**
 * How fast a link is: every host has a port where the others measure the way to it, over sockets as those of the exchange are.
 *
 *     p            comes back at once
 *     b BYTES      is counted
 *     e            is answered with the bytes that were counted and the ms from the first to the last
 */
import { randomUUID } from 'node:crypto';
import { setTimeout as delay } from 'node:timers/promises';
import type { LinkRates } from '../../partition/plan/rates.js';
import { ControlClient, ControlServer, ownKeys } from '../../shard-worker/transport.js';
import { portOn } from '../cluster/index.js';

const PIECE = Buffer.alloc(64 << 10, 'b');
const PINGS = 20;
/** A burst is made longer until it takes as long, in ms: what lies in buffers on the way then counts for little. */
const ENOUGH_MS = 200;
const FIRST_BYTES = 512 << 10;
const MOST_BYTES = 256 << 20;
/** A link that takes longer is no link; ms. */
const DEADLINE_MS = 8000;

interface Count {
  bytes: number;
  first: number;
  last: number;
}

/** Where others measure the way to this host. */
export class ProbePort {
  readonly #server: ControlServer;
  readonly #counts = new Map<string, Count>();

  private constructor(server: ControlServer) {
    this.#server = server;
    void this.#serve().catch(() => undefined);
  }

  static async open(address: string): Promise<ProbePort> {
    return new ProbePort(
      await ControlServer.listen(portOn(address), {
        // As sent, a piece has a nonce and a seal too.
        maxFrameBytes: 2 * PIECE.byteLength,
        door: { keys: ownKeys(), guests: () => false, isPatient: true },
      }),
    );
  }

  get endpoint(): string {
    return this.#server.endpoint;
  }

  get key(): string {
    return ownKeys().publicKey;
  }

  admit(keys: readonly string[]): void {
    for (const key of keys) this.#server.admit(key);
  }

  close(): void {
    this.#server.close();
  }

  async #serve(): Promise<void> {
    for await (const { from, frame } of this.#server.messages()) {
      const kind = String.fromCharCode(frame[0] ?? 0);
      if (kind === 'b') this.#count(from, frame.byteLength);
      else if (kind === 'p') await this.#server.send(from, frame);
      else if (kind === 'e') await this.#report(from);
    }
  }

  /** The first piece starts the clock. */
  #count(from: string, bytes: number): void {
    const now = performance.now();
    const count = this.#counts.get(from);
    if (count === undefined) this.#counts.set(from, { bytes: 0, first: now, last: now });
    else {
      count.bytes += bytes;
      count.last = now;
    }
  }

  async #report(from: string): Promise<void> {
    const { bytes, first, last } = this.#counts.get(from) ?? { bytes: 0, first: 0, last: 0 };
    this.#counts.delete(from);
    await this.#server.send(from, Buffer.from(JSON.stringify({ bytes, ms: last - first })));
  }
}

type Answers = AsyncGenerator<Buffer>;

const answer = async (answers: Answers): Promise<string> => String((await answers.next()).value ?? '');

const latency = async (client: ControlClient, answers: Answers): Promise<number> => {
  const times: number[] = [];
  for (let ping = 0; ping <= PINGS; ping++) {
    const start = performance.now();
    await client.send(Buffer.from('p'));
    await answer(answers);
    // The first one waits for the connection.
    if (ping > 0) times.push(performance.now() - start);
  }
  return (times.toSorted((a, b) => a - b)[PINGS >> 1] ?? 0) / 2;
};

const bandwidth = async (client: ControlClient, answers: Answers, total = FIRST_BYTES): Promise<number> => {
  for (let sent = 0; sent <= total; sent += PIECE.byteLength) await client.send(PIECE);
  await client.send(Buffer.from('e'));
  const { bytes, ms }: { bytes: number; ms: number } = JSON.parse(await answer(answers));
  if (ms >= ENOUGH_MS || total >= MOST_BYTES) return bytes / Math.max(ms, 0.001);
  const more = Math.min(8, Math.max(2, (1.5 * ENOUGH_MS) / Math.max(ms, 1)));
  return bandwidth(client, answers, Math.min(MOST_BYTES, Math.ceil(total * more)));
};

/** Measures the way to a host; undefined where it cannot be reached. */
export const measureLink = async (endpoint: string, serverKey: string): Promise<LinkRates | undefined> => {
  const client = new ControlClient(endpoint, `probe-${randomUUID()}`, { serverKey, keys: ownKeys() });
  const answers = client.messages();
  const over = new AbortController();
  const measuring = (async () => {
    const latencyMs = await latency(client, answers);
    return { latencyMs, wireBytesPerMs: await bandwidth(client, answers) };
  })();
  try {
    const late = delay(DEADLINE_MS, undefined, { signal: over.signal }).catch(() => undefined);
    return await Promise.race([measuring.catch(() => undefined), late]);
  } finally {
    over.abort();
    client.close();
  }
};
