/** The links between all hosts of a cluster, measured: who can send to whom how fast. */
import { setTimeout as delay } from 'node:timers/promises';
import type { LinkRates } from '../../partition/plan/rates.js';
import { deferred } from './deferred.js';
import type { Guest } from './guest.js';
import { measureLink, ProbePort } from './link-probe.js';

/** Name of the leader's host; that of no seat. */
export const LEADER_HOST = '';

/** By sender and receiver. */
export type LinkMatrix = ReadonlyMap<string, ReadonlyMap<string, LinkRates>>;

/** Longer than a host's own deadline. */
const ANSWER_MS = 10_000;

export class LinkMeter {
  readonly #port: ProbePort;
  readonly #links = new Map<string, Map<string, LinkRates>>();
  readonly #waiting = new Map<string, (rates: LinkRates | undefined) => void>();

  private constructor(port: ProbePort) {
    this.#port = port;
  }

  static async open(address: string): Promise<LinkMeter> {
    return new LinkMeter(await ProbePort.open(address));
  }

  get links(): LinkMatrix {
    return this.#links;
  }

  /** The slowest of all links; undefined while none is measured. */
  get slowest(): LinkRates | undefined {
    const all = [...this.#links.values()].flatMap((to) => [...to.values()]);
    if (all.length === 0) return undefined;
    return {
      wireBytesPerMs: Math.min(...all.map(({ wireBytesPerMs }) => wireBytesPerMs)),
      latencyMs: Math.max(...all.map(({ latencyMs }) => latencyMs)),
    };
  }

  /** A host has measured its link to another. */
  told(guest: Guest, to: string, rates: LinkRates): void {
    this.#waiting.get(`${guest.link} ${to}`)?.(rates.wireBytesPerMs > 0 ? rates : undefined);
  }

  /**
   * Measures every link once, both ways. Each host sends to one and receives of one at a time.
   * @param seated hosts by name
   */
  async measure(seated: ReadonlyMap<string, Guest>): Promise<void> {
    const names = [LEADER_HOST, ...seated.keys()];
    const keys = [this.#port.key, ...[...seated.values()].map(({ join }) => join.probe.key)];
    this.#port.admit(keys);
    await Promise.all([...seated.values()].map((guest) => guest.say({ kind: 'probe_for', keys })));
    for (let distance = 1; distance < names.length; distance++) {
      await Promise.all(
        names.map((from, index) => this.#measureOne(seated, from, names[(index + distance) % names.length] ?? '')),
      );
    }
  }

  close(): void {
    this.#port.close();
  }

  async #measureOne(seated: ReadonlyMap<string, Guest>, from: string, to: string): Promise<void> {
    const { endpoint, key } = seated.get(to)?.join.probe ?? this.#port;
    const guest = seated.get(from);
    const rates = await (guest === undefined ? measureLink(endpoint, key) : this.#ask(guest, to, endpoint, key));
    if (rates === undefined) return;
    const row = this.#links.get(from) ?? new Map<string, LinkRates>();
    this.#links.set(from, row.set(to, rates));
  }

  async #ask(guest: Guest, to: string, endpoint: string, key: string): Promise<LinkRates | undefined> {
    const { promise, resolve } = deferred<LinkRates | undefined>();
    const name = `${guest.link} ${to}`;
    this.#waiting.set(name, resolve);
    const over = new AbortController();
    try {
      await guest.say({ kind: 'measure', to, endpoint, key });
      return await Promise.race([promise, delay(ANSWER_MS, undefined, { signal: over.signal }).catch(() => undefined)]);
    } finally {
      over.abort();
      this.#waiting.delete(name);
    }
  }
}
