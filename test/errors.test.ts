/** The catalogue of errors: what it says is what the code does, and docs/errors.md says it too (`npx vitest -u errors` writes it). */
import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { ERROR_GROUPS, type ErrorFacts, statusOf, toErrorCode } from '#tandem/common/error-codes.js';

const CATALOGUE = join('common', 'error-codes.ts');

const SOURCES = ['common', 'partition', 'shard-worker', 'coordinator'].flatMap((folder) =>
  readdirSync(folder, { recursive: true, encoding: 'utf8' })
    .map((file) => join(folder, file))
    .filter((file) => file.endsWith('.ts') && file !== CATALOGUE)
    .map((file) => readFileSync(file, 'utf8')),
);

const GROUPS = Object.entries(ERROR_GROUPS).map(([name, codes]) => [name, Object.entries(codes)] as const);
const ALL: readonly (readonly [code: string, facts: ErrorFacts])[] = GROUPS.flatMap(([, codes]) => codes);

const TITLES: Readonly<Record<string, string>> = {
  PARTITION: 'Reading, planning and writing a model',
  WORKER: 'Workers',
  CLUSTER: 'A cluster of workers',
  COORDINATOR: 'Commands, configs and pictures',
  SERVER: 'The server',
};

const row = ([code, facts]: readonly [string, ErrorFacts]): string =>
  `| \`${code}\` | ${facts.means} | ${facts.status ?? 500} | ${facts.retry ? 'yes' : ''} |`;

const page = (): string =>
  [
    '# Errors',
    '',
    'Every error has a code, and a message that says what was expected, what was found and what to do. On the command line it ends',
    'the program with status 1 (2 for `USAGE`); over HTTP it is `{"error": {"code", "message", "type", "param"}}` with this status.',
    '"Again" says whether the same, after a while, may succeed without anyone changing anything. This page is made from',
    '`common/error-codes.ts`.',
    ...GROUPS.flatMap(([name, codes]) => [
      '',
      `## ${TITLES[name]}`,
      '',
      '| code | means | HTTP | again |',
      '| --- | --- | --- | --- |',
      ...codes.map(row),
    ]),
    '',
  ].join('\n');

describe('the catalogue of errors', () => {
  it('has each code once, and each is used', () => {
    const codes = ALL.map(([code]) => code);
    expect(new Set(codes).size).toBe(codes.length);
    expect(codes.filter((code) => !SOURCES.some((source) => source.includes(`'${code}'`)))).toEqual([]);
  });

  it('has the statuses with which the server answers', () => {
    const found = SOURCES.flatMap((source) => [...source.matchAll(/new ApiError\(\s*(\d{3}),\s*'\w+',\s*'(\w+)'/g)]);
    expect(found.length).toBeGreaterThan(10);
    for (const [, status, code = ''] of found)
      expect(`${code} ${statusOf(toErrorCode(code))}`).toBe(`${code} ${status}`);
  });

  it('takes a code that nobody knows, from another version, for an unforeseen error', () => {
    expect(toErrorCode('RANKS_DISAGREE')).toBe('RANKS_DISAGREE');
    expect(toErrorCode('toString')).toBe('INTERNAL');
  });

  it('is a page of the docs', async () => {
    await expect(page()).toMatchFileSnapshot('../docs/errors.md');
  });
});
