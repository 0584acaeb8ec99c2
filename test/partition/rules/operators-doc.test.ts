/** What the docs say of operators is what the registry says (`npx vitest -u operators-doc` writes it). */
import { readFile } from 'node:fs/promises';
import { expect, it } from 'vitest';
import { operatorTables } from './operators-doc.js';

it('says of every operator in docs/operators.md whether it has a rule, follows, or runs whole and why', async () => {
  const text = await readFile('docs/operators.md', 'utf8');
  const head = text.slice(0, text.indexOf('## Rule'));
  await expect(head + operatorTables()).toMatchFileSnapshot('../../../docs/operators.md');
});
