/**
 * Keys of CURVE. On `tcp://` anybody who reaches the port can connect, a browser's page included, so every such socket speaks CURVE
 * and lets in the keys of its list only. Each process has a key pair of its own; a worker has it from whoever started it, in its
 * environment, which only its user can read, together with the public key of the one whose orders it takes.
 */
import { createHmac, createPrivateKey, createPublicKey, diffieHellman } from 'node:crypto';

/** Environment variable with a worker's keys. */
export const WORKER_KEYS_VARIABLE = 'TANDEM_WORKER_KEYS';

/** As Z85 (ZeroMQ RFC 32), 40 characters each. */
export interface KeyPair {
  readonly publicKey: string;
  readonly secretKey: string;
}

/** What a worker is given. */
export interface WorkerKeys extends KeyPair {
  /** Public key of whoever commands it. */
  readonly serverKey: string;
}

const KEY_CHARACTERS = 40;
const Z85 = '0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ.-:+=^!/*?&<>()[]{}@%$#';

/** Whether a text can be a key. */
export const isKey = (text: string): boolean =>
  text.length === KEY_CHARACTERS && [...text].every((character) => Z85.includes(character));

/** The 32 bytes of a key, as sockets tell it. */
export const keyBytes = (z85: string): Buffer => {
  const bytes = Buffer.alloc((z85.length / 5) * 4);
  for (let group = 0; group * 5 < z85.length; group++) {
    const digits = [...z85.slice(group * 5, group * 5 + 5)];
    const value = digits.reduce((sum, digit) => sum * 85 + Z85.indexOf(digit), 0);
    bytes.writeUInt32BE(value % 2 ** 32, group * 4);
  }
  return bytes;
};

/** The text of 32 bytes. */
export const keyText = (bytes: Buffer): string =>
  Array.from({ length: bytes.length >> 2 }, (_, group) => {
    const value = bytes.readUInt32BE(group * 4);
    return [85 ** 4, 85 ** 3, 85 ** 2, 85, 1].map((place) => Z85[Math.floor(value / place) % 85]).join('');
  }).join('');

export const formatWorkerKeys = ({ serverKey, publicKey, secretKey }: WorkerKeys): string =>
  `${serverKey}${publicKey}${secretKey}`;

/** The keys in a worker's environment; undefined where there are none. */
export const parseWorkerKeys = (text: string | undefined): WorkerKeys | undefined => {
  if (text?.length !== 3 * KEY_CHARACTERS) return undefined;
  const at = (index: number): string => text.slice(index * KEY_CHARACTERS, (index + 1) * KEY_CHARACTERS);
  return { serverKey: at(0), publicKey: at(1), secretKey: at(2) };
};

// RFC 8410: what stands before the 32 bytes of an X25519 key. CURVE's keys are such keys.
const PRIVATE_PREFIX = Buffer.from('302e020100300506032b656e04220420', 'hex');
const PUBLIC_PREFIX = Buffer.from('302a300506032b656e032100', 'hex');

/**
 * Shows that a message was made by the holder of one of two keys, to the holder of the other: sockets tell that a sender is on the
 * list, not which of the list it is.
 */
export const proofOf = (secretKey: string, otherPublicKey: string, message: string): string => {
  const secret = diffieHellman({
    privateKey: createPrivateKey({
      key: Buffer.concat([PRIVATE_PREFIX, keyBytes(secretKey)]),
      format: 'der',
      type: 'pkcs8',
    }),
    publicKey: createPublicKey({
      key: Buffer.concat([PUBLIC_PREFIX, keyBytes(otherPublicKey)]),
      format: 'der',
      type: 'spki',
    }),
  });
  return createHmac('sha256', secret).update(message).digest('hex');
};
