/**
 * The key of a launch: whoever has it belongs to the cluster. On `tcp://` anybody on the machine can connect, a browser's page
 * included, so every such socket speaks CURVE and lets in this key only. The coordinator makes a new one for every process of its own
 * and hands it to its workers in their environment, which only their user can read.
 */

/** Environment variable with the launch's key, in a worker. */
export const LAUNCH_KEY_VARIABLE = 'TANDEM_LAUNCH_KEY';

/** As Z85 (ZeroMQ RFC 32), 40 characters each. */
export interface LaunchKey {
  readonly publicKey: string;
  readonly secretKey: string;
}

const KEY_CHARACTERS = 40;
const Z85 = '0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ.-:+=^!/*?&<>()[]{}@%$#';

/** The 32 bytes of a key, as sockets tell it. */
export const keyBytes = (z85: string): Buffer => {
  const bytes = Buffer.alloc((z85.length / 5) * 4);
  for (let group = 0; group * 5 < z85.length; group++) {
    const digits = [...z85.slice(group * 5, group * 5 + 5)];
    bytes.writeUInt32BE(
      digits.reduce((value, digit) => value * 85 + Z85.indexOf(digit), 0),
      group * 4,
    );
  }
  return bytes;
};

export const formatKey = ({ publicKey, secretKey }: LaunchKey): string => `${publicKey}${secretKey}`;

/** The key in a worker's environment; undefined where there is none. */
export const parseKey = (text: string | undefined): LaunchKey | undefined =>
  text?.length === 2 * KEY_CHARACTERS
    ? { publicKey: text.slice(0, KEY_CHARACTERS), secretKey: text.slice(KEY_CHARACTERS) }
    : undefined;
