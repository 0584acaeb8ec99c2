import { spawnSync } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { expect, it } from 'vitest';

interface Component {
  readonly purl: string;
  readonly licenses?: readonly unknown[];
}

interface Locked {
  readonly version?: string;
  readonly link?: boolean;
  readonly name?: string;
}

const purlOf = ([path, { name, version }]: readonly [string, Locked]): string =>
  `pkg:npm/${(name ?? path.replace(/^.*node_modules\//, '')).replace('@', '%40')}@${version}`;

/** Links are our own folders. */
const locked = (): readonly string[] => {
  const { packages }: { packages: Readonly<Record<string, Locked>> } = JSON.parse(
    readFileSync('package-lock.json', 'utf8'),
  );
  const installed = Object.entries(packages).filter(([path, { link }]) => path.includes('node_modules/') && !link);
  return [...new Set(installed.map(purlOf))].toSorted();
};

it('a software bill of materials names every package of the lock file, with its licence', () => {
  const { status, stdout, stderr } = spawnSync('npm', ['run', '--silent', 'sbom'], {
    encoding: 'utf8',
    maxBuffer: 2 ** 26,
  });
  expect(status, stderr).toBe(0);
  const { bomFormat, components }: { bomFormat: string; components: readonly Component[] } = JSON.parse(stdout);
  expect(bomFormat).toBe('CycloneDX');
  expect([...new Set(components.map(({ purl }) => purl))].toSorted()).toEqual(expect.arrayContaining([...locked()]));
  const registered = components.filter(({ purl }) => locked().includes(purl));
  expect(registered.filter(({ licenses }) => !licenses?.length)).toEqual([]);
});
