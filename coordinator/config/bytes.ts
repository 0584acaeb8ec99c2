/** Byte sizes as people write them: `8GiB`, `512 MiB`, `1.5GB`, or a plain number of bytes. */

const UNITS: Readonly<Record<string, number>> = {
  '': 1,
  b: 1,
  kb: 1e3,
  mb: 1e6,
  gb: 1e9,
  kib: 2 ** 10,
  mib: 2 ** 20,
  gib: 2 ** 30,
};

const NAMES = ['B', 'KiB', 'MiB', 'GiB', 'TiB'] as const;

/** The text form of a byte size; the JSON Schema repeats it, so that an editor can check it too. */
export const BYTES_PATTERN = /^\s*(\d+(?:\.\d+)?)\s*(B|[kKMG]i?B)?\s*$/;

/** Bytes of a size such as `8GiB`; `undefined` where the text is no size. */
export const parseBytes = (text: string): number | undefined => {
  const match = BYTES_PATTERN.exec(text);
  if (!match) return undefined;
  const unit = UNITS[(match[2] ?? '').toLowerCase()];
  return unit === undefined ? undefined : Math.round(Number(match[1]) * unit);
};

/** A size for people: `3.4 GiB`. */
export const formatBytes = (bytes: number): string => {
  const power = bytes < 1 ? 0 : Math.min(NAMES.length - 1, Math.floor(Math.log2(bytes) / 10));
  const value = bytes / 2 ** (10 * power);
  return `${power === 0 ? value : value.toFixed(value < 100 ? 1 : 0)} ${NAMES[power]}`;
};
