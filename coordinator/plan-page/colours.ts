/** Which colour stands for which placement, and the legend that says so. */
import type { PlanReport } from '../../partition/decide/alternatives.js';
import type { BlockWork } from '../../partition/decide/blocks.js';
import { div, element, escapeText } from './html.js';

/** Colours that stay apart in print and for the colour-blind (Okabe and Ito, 2008), the most used first. */
const SHARD_COLOURS = ['#0072b2', '#009e73', '#cc79a7', '#56b4e9', '#d55e00', '#f0e442'] as const;
const PARTIAL_COLOUR = '#e69f00';
const WHOLE_COLOUR = '#9a9a9a';

export interface Meaning {
  readonly colour: string;
  readonly text: string;
  /** Of the whole model's work, 0 to 1. */
  readonly share: number;
}

/** Work that is drawn alike. */
export const kindOf = ({ placement, axis, axes }: BlockWork): string =>
  placement === 'shard' ? `axis ${axis} of ${axes}` : placement;

const sum = (numbers: readonly number[]): number => numbers.reduce((total, number) => total + number, 0);

/** Operators by the work that they do in this kind. */
const mainOps = (works: readonly BlockWork[]): string => {
  const shares = new Map<string, number>();
  for (const { ops, flop_fraction } of works) {
    const [op] = ops;
    if (op !== undefined) shares.set(op, (shares.get(op) ?? 0) + flop_fraction);
  }
  const sorted = [...shares].sort(([, a], [, b]) => b - a).map(([op]) => op);
  return sorted.slice(0, 3).join(', ');
};

const describe = (kind: string, works: readonly BlockWork[]): string => {
  const share = `${(100 * sum(works.map(({ flop_fraction }) => flop_fraction))).toFixed(1)} % of the work`;
  switch (works[0]?.placement) {
    case 'shard':
      return `each rank makes its part of the result, along ${kind} (${mainOps(works)}): ${share}`;
    case 'partial':
      return `each rank makes an addend of the result; they are added up later (${mainOps(works)}): ${share}`;
    default:
      return `every rank does all of it: ${share}`;
  }
};

/** A meaning for every kind of work in the plan. */
export const findMeanings = ({ blocks }: PlanReport): ReadonlyMap<string, Meaning> => {
  const kinds = new Map<string, BlockWork[]>();
  for (const work of blocks.flatMap((block) => block.work))
    kinds.set(kindOf(work), [...(kinds.get(kindOf(work)) ?? []), work]);
  const share = (works: readonly BlockWork[]) => sum(works.map(({ flop_fraction }) => flop_fraction));
  const shards = [...kinds]
    .filter(([, works]) => works[0]?.placement === 'shard')
    .sort(([, a], [, b]) => share(b) - share(a));
  const rest = [...kinds].filter(([, works]) => works[0]?.placement !== 'shard').sort(([a], [b]) => a.localeCompare(b));
  const colourOf = (kind: string, place: number) => {
    if (kind === 'partial') return PARTIAL_COLOUR;
    return kind === 'replicate' ? WHOLE_COLOUR : (SHARD_COLOURS[place] ?? SHARD_COLOURS.at(-1) ?? WHOLE_COLOUR);
  };
  return new Map(
    [...shards, ...rest].map(([kind, works], place) => [
      kind,
      { colour: colourOf(kind, place), text: describe(kind, works), share: share(works) },
    ]),
  );
};

/** Kinds with less work than this are too short to be seen. */
const SEEN = 0.0005;

export const drawLegend = (meanings: ReadonlyMap<string, Meaning>): string =>
  div(
    'legend',
    ...[...meanings.values()]
      .filter(({ share }) => share >= SEEN)
      .map(({ colour, text }) =>
        div(
          'key',
          element('span', { class: 'swatch', style: `background:${colour}` }),
          element('span', {}, escapeText(text)),
        ),
      ),
  );
