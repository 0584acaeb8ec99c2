/**
 * The files of long-lived keys: one line a key.
 *
 *     tandem-secret-key NAME PUBLIC SECRET      NAME.secret
 *     tandem-public-key NAME PUBLIC             leader.public, and a line for each host in hosts.public
 */
import { appendFileSync, existsSync, mkdirSync, readFileSync, statSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { TandemError } from '../../common/errors.js';
import { isKey, type KeyPair } from '../../shard-worker/keys.js';
import { makeKeys } from '../../shard-worker/transport.js';

export const LEADER = 'leader';
const HOSTS_FILE = 'hosts.public';
const NAME = /^[a-z0-9]([a-z0-9._-]{0,62}[a-z0-9])?$/i;

export interface NamedKey {
  readonly name: string;
  readonly publicKey: string;
}

const problem = (path: string, found: string, remedy: string): TandemError =>
  new TandemError('KEYS_INVALID', `Expected keys of Tandem in "${path}"; ${found}; ${remedy}.`);

const read = (path: string): string => {
  try {
    return readFileSync(path, 'utf8');
  } catch (cause) {
    const code = cause instanceof Error && 'code' in cause ? String(cause.code) : 'unreadable';
    throw problem(path, `it cannot be read (${code})`, 'make keys with "tandem keys", or name their directory');
  }
};

const wordsOf = (text: string): readonly (readonly string[])[] =>
  text
    .split('\n')
    .map((line) => line.trim().split(/\s+/))
    .filter(([first = '']) => first !== '' && first !== '#');

const publicKeys = (path: string): readonly NamedKey[] =>
  wordsOf(read(path)).map(([kind, name = '', publicKey = '', ...rest]) => {
    if (kind === 'tandem-public-key' && NAME.test(name) && isKey(publicKey) && rest.length === 0)
      return { name, publicKey };
    throw problem(path, 'a line is not "tandem-public-key NAME KEY"', 'make keys with "tandem keys"');
  });

/** Others than its owner and group must not read a secret. */
const checkPrivate = (path: string): void => {
  const mode = statSync(path).mode & 0o777;
  if (process.platform === 'win32' || (mode & 0o007) === 0) return;
  throw problem(path, `everyone may use it (mode ${mode.toString(8)})`, `run "chmod 600 ${path}"`);
};

/** @throws TandemError `KEYS_INVALID` */
export const readSecret = (directory: string, name: string): KeyPair & NamedKey => {
  const path = join(directory, `${name}.secret`);
  const [words] = wordsOf(read(path));
  checkPrivate(path);
  const [kind, found = '', publicKey = '', secretKey = ''] = words ?? [];
  if (kind === 'tandem-secret-key' && found === name && isKey(publicKey) && isKey(secretKey))
    return { name, publicKey, secretKey };
  throw problem(path, `it is not "tandem-secret-key ${name} PUBLIC SECRET"`, 'make keys with "tandem keys"');
};

/** @throws TandemError `KEYS_INVALID` */
export const readLeaderKey = (directory: string): string => {
  const path = join(directory, `${LEADER}.public`);
  const [key] = publicKeys(path);
  if (key !== undefined) return key.publicKey;
  throw problem(path, 'it is empty', 'copy leader.public here');
};

/** Who may join. @throws TandemError `KEYS_INVALID` */
export const readHostKeys = (directory: string): readonly NamedKey[] => publicKeys(join(directory, HOSTS_FILE));

const secretLine = (name: string, { publicKey, secretKey }: KeyPair): string =>
  `tandem-secret-key ${name} ${publicKey} ${secretKey}\n`;

/** @returns its public key, made where it was missing */
const ensureSecret = (directory: string, name: string, made: string[]): string => {
  const path = join(directory, `${name}.secret`);
  if (existsSync(path)) return readSecret(directory, name).publicKey;
  const keys = makeKeys();
  writeFileSync(path, secretLine(name, keys), { mode: 0o600, flag: 'wx' });
  made.push(path);
  return keys.publicKey;
};

const ensureListed = (path: string, name: string, publicKey: string, made: string[]): void => {
  const listed = existsSync(path) ? publicKeys(path) : [];
  if (listed.some((key) => key.publicKey === publicKey)) return;
  appendFileSync(path, `tandem-public-key ${name} ${publicKey}\n`, { mode: 0o644 });
  made.push(path);
};

/**
 * Makes the key files that are missing; none is replaced.
 * @returns files that were made or added to
 * @throws TandemError `KEYS_INVALID`, `USAGE`
 */
export const makeKeyFiles = (directory: string, hosts: readonly string[]): readonly string[] => {
  const wrong = hosts.find((name) => !NAME.test(name) || name === LEADER);
  if (wrong !== undefined)
    throw new TandemError(
      'USAGE',
      `Expected a host's name of letters, digits, ".", "-" and "_", other than "${LEADER}"; found "${wrong}".`,
    );
  const made: string[] = [];
  mkdirSync(directory, { recursive: true, mode: 0o700 });
  ensureListed(join(directory, `${LEADER}.public`), LEADER, ensureSecret(directory, LEADER, made), made);
  for (const name of hosts) {
    // A host's secret may have been moved to its host: then its line stays, and nothing is made.
    const path = join(directory, HOSTS_FILE);
    const isListed = existsSync(path) && publicKeys(path).some((key) => key.name === name);
    if (isListed && !existsSync(join(directory, `${name}.secret`))) continue;
    ensureListed(path, name, ensureSecret(directory, name, made), made);
  }
  return made;
};
