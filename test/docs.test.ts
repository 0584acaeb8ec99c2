/** The docs say what is there: links lead somewhere, commands and options exist, and the table of keys is the schema's. */
import { existsSync, readdirSync, readFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { clusterJsonSchema } from '#tandem/coordinator/index.js';
import { runHere } from './cli/in-process.js';
import { OPTIMUM_MODELS, schedulerOf } from './end-to-end/optimum-models.js';

const PAGES = [
  'README.md',
  'CONTRIBUTING.md',
  ...readdirSync('docs')
    .filter((file) => file.endsWith('.md'))
    .map((file) => join('docs', file)),
  'models/emoji-sd/README.md',
  'models/export/README.md',
  'models/train/README.md',
];

const read = (page: string): string => readFileSync(page, 'utf8');

/** What stands in code, in line or by the line. */
const codeOf = (page: string): readonly string[] =>
  [...read(page).matchAll(/`([^`\n]+)`|^(?:\$ )?(npm .*|npx .*|node .*)$/gm)].map(
    ([, inline, line]) => inline ?? line ?? '',
  );

const CODE = PAGES.flatMap(codeOf);

describe('links', () => {
  it.each(PAGES)('of %s lead to files that are there', (page) => {
    const targets = [...read(page).matchAll(/\]\(([^)#\s]+)[^)]*\)/g)]
      .map(([, target = '']) => target)
      .filter((target) => !/^[a-z]+:/.test(target));
    expect(targets.filter((target) => !existsSync(join(dirname(page), target)))).toEqual([]);
  });

  it('lead from the README to every page of the docs', () => {
    const pages = PAGES.filter((page) => page.startsWith('docs'));
    expect(pages.filter((page) => !read('README.md').includes(`](${page.replaceAll('\\', '/')})`))).toEqual([]);
  });
});

/** The files and the lines that the diffs of a page give them. */
const additionsIn = (page: string): readonly (readonly [file: string, line: string])[] =>
  [...read(page).matchAll(/^```diff\n(.*?)^```/gms)].flatMap(([, diff = '']) => {
    let file = '';
    return diff.split('\n').flatMap((line) => {
      file = /^# (\S+)$/.exec(line)?.[1] ?? file;
      return line.startsWith('+') && !line.includes('...') ? [[file, line.slice(1)] as const] : [];
    });
  });

it('what CONTRIBUTING shows as added stands in the files', () => {
  const additions = additionsIn('CONTRIBUTING.md');
  expect(new Set(additions.map(([file]) => file)).size).toBeGreaterThan(5);
  expect(additions.filter(([file, line]) => !read(file).split('\n').includes(line))).toEqual([]);
});

describe('commands', () => {
  it('of npm are scripts, of measurements and tools files', () => {
    const { scripts } = JSON.parse(read('package.json'));
    const names = CODE.flatMap((code) => /^npm run ([\w:]+)/.exec(code)?.[1] ?? []);
    expect(names.length).toBeGreaterThan(5);
    expect(names.filter((name) => !(name in scripts))).toEqual([]);
    const measures = CODE.flatMap((code) => /npm run measure -- ([\w-]+)/.exec(code)?.[1] ?? []);
    const wanted = measures.filter((name) => name !== 'NAME').map((name) => `test/measure/${name}.measure.ts`);
    const tools = CODE.flatMap((code) => /^node (\S+\.mjs)/.exec(code)?.[1] ?? []);
    expect([...wanted, ...tools].filter((file) => !existsSync(file))).toEqual([]);
  });

  it('of tandem have the options with which they are shown', async () => {
    const commands = new Map<string, Set<string>>();
    for (const code of CODE) {
      const [, command = '', rest = ''] = /^(?:npx )?tandem ([a-z]+)(.*)$/.exec(code) ?? [];
      if (command === '') continue;
      const options = commands.get(command) ?? new Set<string>();
      for (const [option] of rest.matchAll(/--[a-z][a-z-]*/g)) options.add(option);
      commands.set(command, options);
    }
    expect(commands.size).toBeGreaterThan(5);
    for (const [command, options] of commands) {
      const { status, stdout } = await runHere(command, '--help');
      expect(status, command).toBe(0);
      expect(
        [...options].filter((option) => !stdout.includes(`${option} `) && !stdout.includes(`${option}\n`)),
      ).toEqual([]);
    }
  });
});

type Schema = {
  readonly properties?: Readonly<Record<string, Schema>>;
  readonly items?: Schema;
};

/** `a.b`, and `a[].b` inside of a list. */
const leavesOf = ({ properties, items }: Schema, path: string): readonly string[] => {
  if (items?.properties) return leavesOf(items, `${path}[]`);
  if (!properties) return [path];
  return Object.entries(properties).flatMap(([key, inner]) => leavesOf(inner, path === '' ? key : `${path}.${key}`));
};

/** The first column's keys; `.b` after `a.x` is `a.b`, and `_2` after `a.x` is `a.x_2`. */
const tableKeys = (page: string): readonly string[] =>
  [...read(page).matchAll(/^\| (`[^|]+?) *\|/gm)].flatMap(([, cell = '']) => {
    const keys: string[] = [];
    for (const [, key = ''] of cell.matchAll(/`([^`]+)`/g)) {
      const [first = ''] = keys;
      if (key.startsWith('.')) keys.push(`${first.slice(0, first.lastIndexOf('.'))}${key}`);
      else keys.push(key.startsWith('_') ? `${first}${key}` : key);
    }
    return keys;
  });

it('the table of keys has every key of the schema and no other', () => {
  expect([...tableKeys('docs/config.md')].sort()).toEqual([...leavesOf(clusterJsonSchema() as Schema, '')].sort());
});

it('the table of exports has a row for each that is painted in the tests, with its scheduler, above the limit', () => {
  const rows = [...read('docs/exports.md').matchAll(/^\| ([a-z][\w-]*) .*\|$/gm)]
    .map(([row]) => row.split('|').map((cell) => cell.trim()))
    .filter(([, name]) => name !== 'model');
  const named = OPTIMUM_MODELS.map((model) => [model, schedulerOf(model).replace('Scheduler', '')]);
  expect(rows.map(([, name, scheduler]) => [name, scheduler])).toEqual(named);
  const measured = rows.flatMap((row) => row.slice(4, 8));
  expect(measured).toHaveLength(4 * OPTIMUM_MODELS.length);
  expect(measured.filter((cell) => cell !== 'equal' && !(Number.parseFloat(cell) >= 50))).toEqual([]);
});

it('the README is short', () => {
  expect(Buffer.byteLength(read('README.md'))).toBeLessThan(10_240);
});
