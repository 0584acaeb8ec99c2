/**
 * A group's way to its workers: the control socket, or a link of its own to one on another host. A worker that may outlive its
 * coordinator obeys what is sealed alone, with what it has asked for: until then it is knocked at.
 */
import type { ToWorker } from '../../shard-worker/protocol.js';
import { newSession, Seal } from '../../shard-worker/seal.js';
import type { ControlServer } from '../../shard-worker/transport.js';
import { encodeMessage } from '../../shard-worker/wire.js';
import type { Member, MemberOptions } from './member.js';

export class ControlLine {
  readonly #server: Pick<ControlServer, 'send'>;
  readonly #detached: MemberOptions['detached'];
  /** Tells this coordinator's words from those of the one before. */
  readonly session = newSession();

  constructor(server: Pick<ControlServer, 'send'>, detached: MemberOptions['detached']) {
    this.#server = server;
    this.#detached = detached;
  }

  send({ id, seal, process: { link } }: Member, message: ToWorker): Promise<void> {
    const frame = encodeMessage(message);
    if (link !== undefined) return link.send(frame);
    return this.#server.send(id, seal === undefined ? frame : seal.seal(frame));
  }

  /** From here on what is sent to a worker is sealed, where it has said with what. */
  seal(member: Member, challenge: string | undefined): void {
    const token = this.#detached?.runtime.token;
    if (token !== undefined && challenge !== undefined) member.seal = new Seal(token, challenge, this.session);
  }

  /** What is sent to a worker before it has found this coordinator's socket is lost, so this is sent until it answers. */
  get knock(): ToWorker {
    return { kind: 'knock', session: this.session };
  }

  /**
   * Seals what is sent to a worker that is to be taken over. It answers every knock, and the first answer is enough.
   * @returns what it is to be told then
   */
  attach(member: Member, challenge: string): ToWorker | undefined {
    if (this.#detached === undefined || member.seal !== undefined) return undefined;
    this.seal(member, challenge);
    return { kind: 'attach', session: this.session, keep_warm_ms: Math.ceil(this.#detached.keepWarmMs) };
  }
}
