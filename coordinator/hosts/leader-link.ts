/**
 * A host's link to its leader: one connection from its first message to its end, whatever ends it. That the leader is there is ZeroMQ's
 * own affair, whose thread answers also while the leader plans.
 */
import { randomBytes } from 'node:crypto';
import { TandemError } from '../../common/errors.js';
import { type KeyPair, proofOf } from '../../shard-worker/keys.js';
import { ControlClient, type Unheard } from '../../shard-worker/transport.js';
import { decode, encode, type FromHost, type Join, type ToHost, toHost } from './messages.js';

/** Closed handshakes in a row: one may be a leader that has just ended. */
const OTHER_KEY_TIMES = 4;

export interface LeaderLinkOptions {
  readonly endpoint: string;
  readonly leaderKey: string;
  readonly keys: KeyPair;
  readonly join: Omit<Join, 'proof'>;
  readonly onMessage: (message: Exclude<ToHost, { kind: 'refused' | 'ping' }>) => void;
}

const unlisted = ({ endpoint, join: { name, key } }: LeaderLinkOptions): TandemError =>
  new TandemError(
    'JOIN_KEY',
    `The leader at ${endpoint} does not list the key of "${name}"; add "tandem-public-key ${name} ${key}" to its hosts.public.`,
  );

const otherKey = ({ endpoint, leaderKey }: LeaderLinkOptions): TandemError =>
  new TandemError(
    'JOIN_LEADER_KEY',
    `Expected the leader with the key ${leaderKey} at ${endpoint}; who listens there has another one. Copy leader.public from the leader.`,
  );

/** How a link ended: `again` where the leader may be there in a moment. */
export type LinkEnd = { readonly kind: 'again' } | { readonly kind: 'refused'; readonly error: TandemError };

export class LeaderLink {
  readonly ended: Promise<LinkEnd>;
  readonly #options: LeaderLinkOptions;
  readonly #client: ControlClient;
  #end: (end: LinkEnd) => void = () => undefined;
  #closedHandshakes = 0;
  #hasJoined = false;

  constructor(options: LeaderLinkOptions) {
    this.#options = options;
    this.ended = new Promise((resolve) => {
      this.#end = resolve;
    });
    const { endpoint, leaderKey, keys, join } = options;
    const id = `host-${randomBytes(16).toString('hex')}`;
    this.#client = new ControlClient(endpoint, id, {
      serverKey: leaderKey,
      keys,
      onUnheard: (why) => this.#unheard(why),
    });
    this.say({ ...join, proof: proofOf(keys.secretKey, leaderKey, id) });
    this.#listen().catch(() => this.#end({ kind: 'again' }));
  }

  get hasJoined(): boolean {
    return this.#hasJoined;
  }

  say(message: FromHost): void {
    this.#client.send(encode(message)).catch(() => undefined);
  }

  close(): void {
    this.#client.close();
    this.#end({ kind: 'again' });
  }

  async #listen(): Promise<void> {
    for await (const frame of this.#client.messages()) {
      const message = decode<ToHost>(toHost, frame);
      if (message === undefined) continue;
      if (message.kind === 'ping') continue;
      if (message.kind === 'refused') this.#refused(message.code, message.message);
      else {
        this.#hasJoined ||= message.kind === 'welcome';
        this.#options.onMessage(message);
      }
    }
  }

  #refused(code: string, message: string): void {
    if (code === 'JOIN_AGAIN') this.#end({ kind: 'again' });
    else this.#end({ kind: 'refused', error: refusal(code, message) });
  }

  #unheard(why: Unheard): void {
    if (this.#hasJoined) this.#end({ kind: 'again' });
    else if (why === 'unlisted') this.#end({ kind: 'refused', error: unlisted(this.#options) });
    else if (why === 'other-key') {
      this.#closedHandshakes += 1;
      if (this.#closedHandshakes >= OTHER_KEY_TIMES) this.#end({ kind: 'refused', error: otherKey(this.#options) });
    }
  }
}

const REFUSALS = ['JOIN_KEY', 'JOIN_VERSION', 'JOIN_MODEL', 'JOIN_PLACE', 'JOIN_PROCESSOR'] as const;

const refusal = (code: string, message: string): TandemError =>
  new TandemError(REFUSALS.find((known) => known === code) ?? 'JOIN_VERSION', message);
