import { describe, expect, it } from 'vitest';
import { formatBytes, parseBytes } from '#tandem/coordinator/config/bytes.js';
import { nearest } from '#tandem/coordinator/config/nearest.js';

describe('byte sizes', () => {
  it.each([
    ['8GiB', 8 * 2 ** 30],
    ['8 GB', 8e9],
    ['1.5MiB', 1.5 * 2 ** 20],
    ['512kB', 512_000],
    ['12', 12],
    ['3B', 3],
  ])('reads %s as %d bytes', (text, bytes) => {
    expect(parseBytes(text)).toBe(bytes);
  });

  it.each(['', 'GiB', '-1GiB', '8 GiBB', '1e9', '8Gib/s'])('does not take "%s" for a size', (text) => {
    expect(parseBytes(text)).toBeUndefined();
  });

  it('are written in the unit that fits', () => {
    expect([0, 900, 1536, 3.4 * 2 ** 30].map(formatBytes)).toEqual(['0 B', '900 B', '1.5 KiB', '3.4 GiB']);
  });
});

describe('the nearest known word', () => {
  it('is found through a slip and not through another word', () => {
    expect(nearest('gidance_scale', ['guidance_scale', 'width'])).toBe('guidance_scale');
    expect(nearest('temperature', ['guidance_scale', 'width'])).toBeUndefined();
  });
});
