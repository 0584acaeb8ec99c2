/** What the docs say of operators is what the registry says. */
import { readFile } from 'node:fs/promises';
import { expect, it } from 'vitest';
import { operatorTables } from './operators-doc.js';

it('says of every operator in docs/operators.md whether it has a rule, follows, or runs whole and why', async () => {
  const text = await readFile('docs/operators.md', 'utf8');
  expect(text.slice(text.indexOf('## Rule'))).toBe(operatorTables());
});
