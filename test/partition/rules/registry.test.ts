/** The registry has one entry for each operator: what the compiler refuses, and what it cannot see. */
import { expect, it } from 'vitest';
import { OPERATORS } from '#tandem/partition/rules/index.js';
import { each, join } from '#tandem/partition/rules/registry.js';
import type { Operator } from '#tandem/partition/rules/rule.js';

const WHOLE: Operator = { cost: 'elementwise', whole: 'for a test' };

it('takes no operator twice, and none that does not exist', () => {
  const relu = each(['Relu'], WHOLE);
  expect(Object.keys(join(relu, each(['Abs'], WHOLE)))).toEqual(['Relu', 'Abs']);
  // @ts-expect-error: it is in both
  join(relu, each(['Relu', 'Abs'], WHOLE));
  // @ts-expect-error: there is no such operator
  each(['Relo'], WHOLE);
});

it('knows of an operator either how it is split or why it is not', () => {
  for (const [name, operator] of OPERATORS) {
    const reason = 'whole' in operator ? operator.whole : 'a rule';
    expect(reason, name).not.toBe('');
    expect('whole' in operator, name).not.toBe('match' in operator);
  }
});
