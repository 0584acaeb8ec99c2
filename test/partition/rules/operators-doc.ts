/** The table of `docs/operators.md`, made of the registry. */
import { OPERATORS } from '#tandem/partition/rules/index.js';
import type { Operator } from '#tandem/partition/rules/rule.js';

const list = (names: readonly string[]): string => names.map((name) => `\`${name}\``).join(', ');

const kindOf = (operator: Operator): string => {
  if ('whole' in operator) return operator.whole;
  return operator.isProduct || operator.cost === 'attention' ? 'rule' : 'follows';
};

/** Each operator once. */
export const operatorTables = (): string => {
  const kinds = new Map<string, string[]>();
  for (const [name, operator] of [...OPERATORS].sort(([a], [b]) => (a < b ? -1 : 1)))
    kinds.set(kindOf(operator), [...(kinds.get(kindOf(operator)) ?? []), name]);
  const { rule = [], follows = [], ...whole } = Object.fromEntries(kinds);
  return [
    '## Rule',
    '',
    list(rule),
    '',
    '## Follows',
    '',
    list(follows),
    '',
    '## Whole, for a reason',
    '',
    '| operators | reason |',
    '|---|---|',
    ...Object.entries(whole).map(([reason, names]) => `| ${list(names)} | ${reason} |`),
    '',
  ].join('\n');
};
