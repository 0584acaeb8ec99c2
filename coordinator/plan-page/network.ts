/** The network from top to bottom: a row for each block, and between them what the ranks send each other. */
import type { PlanReport } from '../../partition/decide/alternatives.js';
import type { PlanBlock } from '../../partition/decide/blocks.js';
import { formatBytes } from '../config/bytes.js';
import { kindOf, type Meaning } from './colours.js';
import { div, element, escapeText } from './html.js';

interface Drawing {
  readonly report: PlanReport;
  readonly meanings: ReadonlyMap<string, Meaning>;
  /** The largest share of the work that a block has; its bar is as long as may be. */
  readonly largest: number;
}

const percent = (fraction: number): string => `${(100 * fraction).toFixed(1)} %`;

/** Less work than this, and no exchange: a thin row. */
const MINOR = 0.0005;

const drawBar = (block: PlanBlock, { meanings, largest }: Drawing): string => {
  const order = [...meanings.keys()];
  const works = [...block.work].sort((a, b) => order.indexOf(kindOf(a)) - order.indexOf(kindOf(b)));
  const parts = works.map((work) => {
    const meaning = meanings.get(kindOf(work));
    const width = `${((100 * work.flop_fraction) / largest).toFixed(2)}%`;
    const title = `${kindOf(work)}: ${percent(work.flop_fraction)} of the work, ${work.ops.slice(0, 6).join(', ')}`;
    return element('span', { class: 'part', style: `width:${width};background:${meaning?.colour ?? ''}`, title });
  });
  return div('bar', ...parts);
};

const nameOf = ({ scope }: PlanBlock): string => {
  const inner = scope.slice(1);
  const last = inner.at(-1);
  if (last === undefined) return element('span', { class: 'name' }, escapeText(scope[0] ?? 'before all modules'));
  const outer = inner.slice(0, -1).map((part) => `${part} › `);
  return element(
    'span',
    { class: 'name' },
    element('span', { class: 'outer' }, escapeText(outer.join(''))),
    escapeText(last),
  );
};

const drawExchange = (block: PlanBlock, { report }: Drawing): string => {
  const made = new Set(block.exchanges);
  const pills = report.collectives
    .filter(({ tensor }) => made.has(tensor))
    .map(({ kind, bytes, shape, dtype, tensor }) =>
      element(
        'span',
        { class: 'pill', title: `${tensor}: ${dtype} [${shape.join(', ')}]` },
        `⇄ ${kind} ${formatBytes(bytes)}`,
      ),
    );
  return pills.length === 0 ? '' : div('edge', ...pills);
};

const drawBlock = (block: PlanBlock, drawing: Drawing): string => {
  const minor = block.flop_fraction < MINOR && block.exchanges.length === 0;
  const row = div(
    minor ? 'block minor' : 'block',
    nameOf(block),
    drawBar(block, drawing),
    element('span', { class: 'figure' }, minor ? '' : percent(block.flop_fraction)),
    element('span', { class: 'figure' }, minor ? '' : formatBytes(block.weight_bytes)),
  );
  return row + drawExchange(block, drawing);
};

/** Blocks under their outermost module, which can be folded away. */
const drawModule = (blocks: readonly PlanBlock[], drawing: Drawing): string => {
  const share = blocks.reduce((sum, { flop_fraction }) => sum + flop_fraction, 0);
  const exchanges = blocks.reduce((sum, block) => sum + block.exchanges.length, 0);
  const count = exchanges === 1 ? '1 exchange' : `${exchanges} exchanges`;
  const title = `${escapeText(blocks[0]?.scope[0] ?? 'before all modules')} <small>${percent(share)} of the work, ${count}</small>`;
  return element(
    'details',
    { open: '' },
    element('summary', {}, title),
    ...blocks.map((block) => drawBlock(block, drawing)),
  );
};

/** Runs of blocks with the same outermost module. */
const inModules = (blocks: readonly PlanBlock[]): readonly (readonly PlanBlock[])[] => {
  const modules: PlanBlock[][] = [];
  for (const block of blocks) {
    const last = modules.at(-1);
    if (last?.[0]?.scope[0] === block.scope[0] && last) last.push(block);
    else modules.push([block]);
  }
  return modules;
};

export const drawNetwork = (report: PlanReport, meanings: ReadonlyMap<string, Meaning>): string => {
  const largest = Math.max(Number.EPSILON, ...report.blocks.map(({ flop_fraction }) => flop_fraction));
  const drawing = { report, meanings, largest };
  const head = div(
    'block head',
    element('span', {}, 'module'),
    element('span', {}, 'its work, coloured by how the result lies on the ranks'),
    element('span', { class: 'figure' }, 'work'),
    element('span', { class: 'figure' }, 'weights'),
  );
  const modules = inModules(report.blocks).map((blocks) => {
    const [only] = blocks;
    return blocks.length === 1 && only && only.scope.length <= 1
      ? drawBlock(only, drawing)
      : drawModule(blocks, drawing);
  });
  return div('network', head, ...modules);
};
