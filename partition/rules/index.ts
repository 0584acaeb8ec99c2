/** The registry: every operator that the planner knows how to split. An operator that is not here runs whole on every rank. */

import type { Node } from '../graph/graph.js';
import { ATTENTION } from './attention.js';
import { CONTRACTION } from './contraction.js';
import { ELEMENTWISE } from './elementwise.js';
import { LAYOUT } from './layout.js';
import { REDUCTION } from './reduction.js';
import { RESHAPE } from './reshape.js';
import type { Rule } from './rule.js';

const RULES: ReadonlyMap<string, Rule> = new Map<string, Rule>(
  Object.entries({ ...ELEMENTWISE, ...CONTRACTION, ...RESHAPE, ...LAYOUT, ...REDUCTION, ...ATTENTION }),
);

/** Key of an operator: `Conv`, or `com.microsoft::FastGelu`. */
export const operatorKey = (node: Node): string => (node.domain === '' ? node.op : `${node.domain}::${node.op}`);

export const findRule = (node: Node): Rule | undefined => RULES.get(operatorKey(node));

/** Every operator with a rule, by key. */
export const knownOperators = (): readonly string[] => [...RULES.keys()];
