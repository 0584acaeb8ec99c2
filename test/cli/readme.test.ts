import { readFile } from 'node:fs/promises';
import { describe, expect, it } from 'vitest';

const readme = await readFile('README.md', 'utf8');
const blocks = [...readme.matchAll(/^```sh\n(.*?)^```/gms)].map(([, block]) => block?.trim().split('\n') ?? []);

describe('the README', () => {
  it('begins with the two commands that a clean clone and .ci/run use', () => {
    expect(blocks[0]?.[0]).toBe('npm ci');
    expect(blocks[0]?.[1]).toMatch(
      /^npx tandem generate --config configs\/dual-cpu\.yaml --prompt ".*" --out apple\.png$/,
    );
    expect(blocks[1]?.at(-1)).toBe('npm test');
  });
});
