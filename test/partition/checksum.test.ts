import { expect, test } from 'vitest';
import { Checksum, checksumOf } from '#tandem/common/checksum.js';

test('the checksum of nothing is test case 1 of the GCM specification by McGrew and Viega', () => {
  expect(checksumOf(new Uint8Array())).toBe('58e2fccefa7e3061367f1d57a4e7455a');
});

test('pieces of any size add up to the whole', () => {
  const bytes = Uint8Array.from({ length: 1000 }, (_, index) => (index * 37) % 256);
  const checksum = new Checksum();
  for (const [start, end] of [
    [0, 1],
    [1, 17],
    [17, 17],
    [17, 900],
    [900, 1000],
  ] as const) {
    checksum.update(bytes.subarray(start, end));
  }
  expect(checksum.digest()).toBe(checksumOf(bytes));
});

test('a flipped bit changes it, wherever it is', () => {
  const bytes = new Uint8Array(100);
  const seen = new Set([checksumOf(bytes)]);
  for (let index = 0; index < bytes.length; index++) {
    seen.add(checksumOf(bytes.map((byte, at) => (at === index ? byte ^ 1 : byte))));
  }
  expect(seen.size).toBe(bytes.length + 1);
});
