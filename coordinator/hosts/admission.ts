/** Who may join: a host whose key is listed, of the same version, with the same kind of processor. */
import { statSync } from 'node:fs';
import { join as joinPath } from 'node:path';
import type { ErrorCode } from '../../common/error-codes.js';
import { TandemError } from '../../common/errors.js';
import { findTarget } from '../../partition/write/optimise/target.js';
import { type KeyPair, proofOf } from '../../shard-worker/keys.js';
import { LEADER, type NamedKey, readHostKeys, readSecret } from './key-files.js';
import { JOIN_PROTOCOL, type Join } from './messages.js';
import { ownVersions } from './versions.js';

const refuse = (code: ErrorCode, message: string): never => {
  throw new TandemError(code, message);
};

export class Admission {
  readonly keys: KeyPair;
  readonly #directory: string;
  readonly #model: string;
  readonly #layout: string;
  #listed: readonly NamedKey[];
  #readAt = 0;

  private constructor(directory: string, model: string, layout: string) {
    this.#directory = directory;
    this.#model = model;
    this.#layout = layout;
    this.keys = readSecret(directory, LEADER);
    this.#listed = readHostKeys(directory);
  }

  /** @throws TandemError `KEYS_INVALID` */
  static async open(directory: string, model: string): Promise<Admission> {
    return new Admission(directory, model, (await findTarget('cpu'))?.layout ?? '');
  }

  /** Looks at the list again where it has changed, for a key that is not on it. */
  isListed(key: string): boolean {
    if (this.#listed.some(({ publicKey }) => publicKey === key)) return true;
    this.#readAgain();
    return this.#listed.some(({ publicKey }) => publicKey === key);
  }

  /**
   * @param link routing id, which the proof names
   * @throws TandemError `JOIN_*`
   */
  check(protocol: number, join: Join | undefined, link: string): Join {
    const own = ownVersions();
    if (join === undefined || protocol !== JOIN_PROTOCOL)
      return refuse(
        'JOIN_VERSION',
        `Expected a host of Tandem ${own.tandem} (join protocol ${JOIN_PROTOCOL}), found join protocol ${protocol}; run the same version everywhere.`,
      );
    for (const [what, version] of Object.entries(own)) {
      const found = Reflect.get(join.versions, what);
      if (found !== version)
        return refuse(
          'JOIN_VERSION',
          `Expected ${what} ${version}, as the leader has; host "${join.name}" has ${String(found)}. Run the same version everywhere.`,
        );
    }
    this.#checkKey(join, link);
    if (join.model !== undefined && join.model !== this.#model)
      return refuse('JOIN_MODEL', `Host "${join.name}" serves "${join.model}" only; the leader runs "${this.#model}".`);
    if (join.layout !== this.#layout)
      return refuse(
        'JOIN_PROCESSOR',
        `Expected a processor of the leader's kind on host "${join.name}": segments are prepared for layout ${this.#layout.slice(0, 8)}, and it has ${join.layout.slice(0, 8)}.`,
      );
    return join;
  }

  #checkKey(join: Join, link: string): void {
    const isNamed = this.#listed.some(({ name, publicKey }) => publicKey === join.key && name === join.name);
    const isProved = isNamed && proofOf(this.keys.secretKey, join.key, link) === join.proof;
    if (!isProved)
      refuse(
        'JOIN_KEY',
        `Expected a key that hosts.public lists for "${join.name}"; found another. Add its line there.`,
      );
  }

  #readAgain(): void {
    try {
      const { mtimeMs } = statSync(joinPath(this.#directory, 'hosts.public'));
      if (mtimeMs === this.#readAt) return;
      this.#readAt = mtimeMs;
      this.#listed = readHostKeys(this.#directory);
    } catch {
      // A list that cannot be read just now lists those that it did.
    }
  }
}
