/** The registry: what the planner knows of every operator. One that is not here, of another domain, runs whole on every rank. */

import type { Node } from '../graph/graph.js';
import { ATTENTION } from './attention.js';
import { CONTRACTION } from './contraction.js';
import { ELEMENTWISE } from './elementwise.js';
import { MOVEMENT } from './movement.js';
import type { OperatorName } from './names.js';
import { PARTS } from './parts.js';
import { REDUCTION } from './reduction.js';
import { join } from './registry.js';
import { RESHAPE } from './reshape.js';
import type { Facts, Operator, Rule } from './rule.js';
import { WHOLE } from './whole.js';

const REGISTRY: Readonly<Record<OperatorName, Operator>> = join(
  join(join(ELEMENTWISE, CONTRACTION), join(RESHAPE, join(MOVEMENT, PARTS))),
  join(join(REDUCTION, ATTENTION), WHOLE),
);

/** Every operator that is known, by key. */
export const OPERATORS: ReadonlyMap<string, Operator> = new Map(Object.entries(REGISTRY));

/** Key of an operator: `Conv`, or `com.microsoft::FastGelu`. */
export const operatorKey = (node: Node): string => (node.domain === '' ? node.op : `${node.domain}::${node.op}`);

const UNKNOWN: Facts = { cost: 'elementwise' };

export const findFacts = (node: Node): Facts => OPERATORS.get(operatorKey(node)) ?? UNKNOWN;

const isRule = (operator: Operator | undefined): operator is Rule => operator !== undefined && 'match' in operator;

export const findRule = (node: Node): Rule | undefined => {
  const operator = OPERATORS.get(operatorKey(node));
  return isRule(operator) ? operator : undefined;
};

/** Why an operator has no rule. */
export const whyNoRule = (node: Node): string => {
  const operator = OPERATORS.get(operatorKey(node));
  return operator && 'whole' in operator ? operator.whole : 'it is not an operator of ONNX';
};

/** Every operator with a rule, by key. */
export const knownOperators = (): readonly string[] =>
  [...OPERATORS].flatMap(([key, operator]) => (isRule(operator) ? [key] : []));
