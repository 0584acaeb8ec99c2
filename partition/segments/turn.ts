/**
 * Takes whole turns away from an angle, so that it is between -pi and pi: `x - k * 2 pi`, with 2 pi in three parts of which the first
 * two have five bits each (Cody and Waite, Software Manual for the Elementary Functions, 1980). Their products with as many as
 * 2^19 turns are exact in float32, so that an angle of millions keeps the digits that it has.
 */
import type { Value } from '../graph/graph.js';
import type { Tape } from '../graph/tape.js';

const PARTS = [6.25, 17 / 512] as const;
const REST = 2 * Math.PI - PARTS[0] - PARTS[1];

/** @param angle float32, perhaps of open size */
export const turned = (tape: Tape, angle: Value): Value => {
  const { constant: _, ...alike } = angle;
  const made = (op: string, inputs: readonly Value[], what = op): Value =>
    tape.add(op, inputs, { ...alike, name: tape.value(angle.name, what, angle.dtype, []).name });
  const number = (value: number): Value => tape.shared(`float ${value}`, () => tape.float('angle', value));
  const turns = made('Round', [made('Mul', [angle, number(1 / (2 * Math.PI))])]);
  return [...PARTS, REST].reduce(
    (left, part) => made('Sub', [left, made('Mul', [turns, number(part)])], 'turned'),
    angle,
  );
};
