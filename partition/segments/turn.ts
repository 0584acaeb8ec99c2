/**
 * Takes whole turns away from an angle, so that it is between -pi and pi: `x - k * 2 pi`, with 2 pi in three parts of which the first
 * two have five bits each (Cody and Waite, Software Manual for the Elementary Functions, 1980). Their products with as many as
 * 2^19 turns are exact in float32, so that an angle of millions keeps the digits that it has.
 */
import type { OpenSpec } from '../../common/tensor.js';
import type { SegmentDraft } from './segment-draft.js';

const PARTS = [6.25, 17 / 512] as const;
const REST = 2 * Math.PI - PARTS[0] - PARTS[1];

const addFloat = (draft: SegmentDraft, name: string, value: number): string => {
  const data = new Uint8Array(Float32Array.of(value).buffer);
  draft.constants.set(name, { name, source: { dtype: 'float32', shape: [], data }, axis: -1, ranges: [] });
  return name;
};

/** @param angle float32 @returns the name of the turned angle */
export const addTurned = (draft: SegmentDraft, angle: OpenSpec): string => {
  const named = (suffix: string): OpenSpec => ({ ...angle, name: `${angle.name}@${suffix}` });
  const turned = `${angle.name}@turned`;
  if (draft.defined.has(turned)) return turned;
  const perTurn = addFloat(draft, 'turns@angle', 1 / (2 * Math.PI));
  const turns = draft.addOp('Round', [draft.addOp('Mul', [angle.name, perTurn], named('turns'))], named('whole-turns'));
  return [...PARTS, REST].reduce((left, part, index, { length }) => {
    const product = draft.addOp('Mul', [turns, addFloat(draft, `turn${index}@angle`, part)], named(`turn${index}`));
    const name = index === length - 1 ? 'turned' : `left${index}`;
    return draft.addOp('Sub', [left, product], named(name));
  }, angle.name);
};
