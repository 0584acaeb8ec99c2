import { spawnSync } from 'node:child_process';
import { resolve } from 'node:path';
import { describe, expect, it } from 'vitest';

const underLimit = (kilobytes: number) =>
  spawnSync(
    'sh',
    ['-c', `ulimit -v ${kilobytes}; exec "$0" "$1" --version`, process.execPath, resolve('bin/tandem.js')],
    {
      encoding: 'utf8',
    },
  );

describe.runIf(process.platform === 'linux')('a limit of address space', () => {
  it('below what the runtimes reserve is told in words, before they end the process', () => {
    const { status, stderr } = underLimit(1_500_000);
    expect(status).toBe(1);
    expect(stderr).toMatch(
      /^error: Expected at least 3\.00 GB of address space, found a limit of 1\.54 GB \(ulimit -v\)\. .*\n$/,
    );
  });

  it('that is enough is no matter', () => {
    expect(underLimit(8_000_000)).toMatchObject({ status: 0, stdout: expect.stringMatching(/^\d+\.\d+\.\d+\n$/) });
  });
});
