/** A plan as one HTML file for people who have not seen the code: no script, nothing from the network, light and dark. */
import type { PlanReport } from '../../partition/decide/alternatives.js';
import { formatBytes } from '../config/bytes.js';
import { drawLegend, findMeanings } from './colours.js';
import { div, element, escapeText, table } from './html.js';
import { drawNetwork } from './network.js';

const STYLE = `
:root{color-scheme:light dark;--ink:#1d1d1f;--soft:#6a6a70;--line:#d9d9de;--paper:#fff;--panel:#f5f5f7;--weights:#5e5ce6;--activations:#b8b7f5}
@media(prefers-color-scheme:dark){:root{--ink:#ececf0;--soft:#a0a0a8;--line:#3a3a40;--paper:#17171a;--panel:#222226}}
*{box-sizing:border-box}
body{margin:0 auto;padding:24px;max-width:1100px;background:var(--paper);color:var(--ink);font:14px/1.45 system-ui,sans-serif}
h1{font-size:22px;margin:0 0 4px}h2{font-size:16px;margin:28px 0 8px}p{margin:0 0 8px;max-width:80ch}small,.soft{color:var(--soft);font-weight:normal}
.tiles{display:flex;flex-wrap:wrap;gap:10px;margin:16px 0}.tile{background:var(--panel);border-radius:8px;padding:10px 14px;min-width:130px}
.tile b{display:block;font-size:18px}
.ranks{display:grid;grid-template-columns:110px 1fr 260px;gap:6px 12px;align-items:center}
.memory{position:relative;height:18px;background:var(--panel);border-radius:3px;display:flex;overflow:hidden}
.limit{position:absolute;top:0;bottom:0;width:2px;background:#d55e00}
table{border-collapse:collapse}th,td{padding:3px 14px 3px 0;text-align:right;border-bottom:1px solid var(--line)}th{color:var(--soft);font-weight:normal}th:first-child,td:first-child{text-align:left}
.legend{display:grid;gap:4px;margin:8px 0 14px}.key{display:flex;gap:8px;align-items:center}.swatch{flex:none;width:14px;height:14px;border-radius:3px}
.block{display:grid;grid-template-columns:300px 1fr 64px 84px;gap:10px;align-items:center;min-height:22px}
.block.minor{min-height:15px;font-size:11px;color:var(--soft)}
.head{color:var(--soft);font-size:12px;border-bottom:1px solid var(--line);margin-bottom:4px}
.name{white-space:nowrap;overflow:hidden;text-overflow:ellipsis}.outer{color:var(--soft)}
.bar{display:flex;height:14px}.part{height:100%}.part:first-child{border-radius:3px 0 0 3px}.part:last-child{border-radius:0 3px 3px 0}
.minor .bar{height:5px}.figure{text-align:right;font-variant-numeric:tabular-nums}
.edge{margin:1px 0 1px 300px;padding-left:10px;border-left:2px solid #d55e00;display:flex;flex-wrap:wrap;gap:6px}
.pill{font-size:11px;border:1px solid #d55e00;border-radius:9px;padding:0 8px;background:var(--paper)}
details{border-left:3px solid var(--line);padding-left:10px;margin:6px 0}summary{cursor:pointer;font-weight:600}
`;

const ms = (value: number): string =>
  value < 1000 ? `${value.toFixed(value < 100 ? 1 : 0)} ms` : `${(value / 1000).toFixed(2)} s`;
const percent = (fraction: number): string => `${(100 * fraction).toFixed(1)} %`;

const tile = (figure: string, text: string): string =>
  div('tile', element('b', {}, escapeText(figure)), escapeText(text));

const drawTiles = (report: PlanReport): string => {
  const { predicted } = report;
  return div(
    'tiles',
    tile(ms(predicted.step_ms), 'a step, predicted'),
    tile(ms(predicted.single_step_ms), 'on one device'),
    tile(`${predicted.speedup.toFixed(2)}x`, 'speedup'),
    tile(percent(report.sharded_weight_fraction), 'of the weights split'),
    tile(percent(report.sharded_flop_fraction), 'of the work split'),
    tile(String(report.collective_count), `exchanges of tensors, in ${Math.max(0, report.segments - 1)} rounds`),
    tile(formatBytes(report.wire_bytes_per_step), 'sent a step by a rank'),
  );
};

const drawRanks = ({ ranks }: PlanReport): string => {
  const needs = ranks.map((rank) => rank.weight_bytes + rank.activation_peak_bytes);
  const most = Math.max(1, ...needs, ...ranks.map(({ memory_limit_bytes }) => memory_limit_bytes ?? 0));
  const width = (bytes: number) => `width:${((100 * bytes) / most).toFixed(2)}%`;
  const rows = ranks.map((rank) => {
    const limit = rank.memory_limit_bytes;
    const mark =
      limit === undefined
        ? ''
        : element('span', {
            class: 'limit',
            style: `left:calc(${((100 * limit) / most).toFixed(2)}% - 2px)`,
            title: `limit: ${formatBytes(limit)}`,
          });
    const bar = div(
      'memory',
      element('span', {
        style: `${width(rank.weight_bytes)};background:var(--weights)`,
        title: `weights: ${formatBytes(rank.weight_bytes)}`,
      }),
      element('span', {
        style: `${width(rank.activation_peak_bytes)};background:var(--activations)`,
        title: `activations: ${formatBytes(rank.activation_peak_bytes)}`,
      }),
      mark,
    );
    const of = limit === undefined ? '' : `, limit ${formatBytes(limit)}`;
    const figures = `${formatBytes(rank.weight_bytes)} weights, ${formatBytes(rank.activation_peak_bytes)} activations${of}; ${percent(rank.flop_fraction)} of the work`;
    return `${element('span', {}, escapeText(`rank ${rank.rank} (${rank.device})`))}${bar}${element('small', {}, escapeText(figures))}`;
  });
  return div('ranks', ...rows);
};

const swatch = (colour: string, text: string): string =>
  div('key', element('span', { class: 'swatch', style: `background:${colour}` }), text);

const MEMORY_LEGEND = div(
  'legend',
  swatch('var(--weights)', 'weights that the rank holds'),
  swatch('var(--activations)', 'activations at their peak during a step'),
);

const NAMES: Readonly<Record<PlanReport['alternatives'][number]['name'], string>> = {
  'tensor-parallel': 'split the tensors',
  'single-device': 'do not split',
  'guidance-batch': 'split the guidance batch',
  tokens: 'split the tokens',
};

const drawAlternatives = ({ alternatives, recommendation, predicted }: PlanReport): string => {
  if (alternatives.length < 2) return '';
  const rows = alternatives.map((one, index) => [
    index === 0 ? `${NAMES[one.name]} (this plan)` : NAMES[one.name],
    ms(one.step_ms),
    formatBytes(Math.max(...one.weight_bytes_per_rank)),
    formatBytes(one.wire_bytes_per_step),
    one.fits ? 'yes' : 'no',
  ]);
  const basis = predicted.calibrated ? 'Times rest on rates measured on this machine.' : 'Times rest on typical rates.';
  return [
    element('h2', {}, 'What else these devices could do'),
    table(['plan', 'step', 'weights of a rank', 'sent a step', 'fits'], rows),
    element('p', {}, escapeText([recommendation, basis].filter((line) => line !== null).join(' '))),
  ].join('');
};

/** Rows of the table of what stays whole. */
const SHOWN = 15;

const drawWhole = ({ replicated }: PlanReport): string => {
  if (replicated.length === 0) return '';
  const rows = replicated.slice(0, SHOWN).map((row) => [row.node, row.op, percent(row.flop_fraction), row.reason]);
  const more =
    replicated.length > SHOWN ? element('p', { class: 'soft' }, `and ${replicated.length - SHOWN} more`) : '';
  return (
    element('h2', {}, 'What every rank does in whole') + table(['node', 'operator', 'work', 'because'], rows) + more
  );
};

const INTRODUCTION =
  'One network, split over several devices (“ranks”). A bar’s length is a block’s share of the arithmetic, its colours say how its result lies on the ranks. ' +
  'Where a row is followed by ⇄, the ranks send each other that much before they go on. Hover over anything for more.';

/**
 * The page of a plan, as the text of an `.html` file.
 * @param name of the model, for the title
 */
export const drawPlanPage = (report: PlanReport, name: string): string => {
  const meanings = findMeanings(report);
  const title = `${name} on ${report.world_size === 1 ? 'one device' : `${report.world_size} devices`}`;
  const body = [
    element('h1', {}, escapeText(title)),
    element('p', { class: 'soft' }, escapeText(INTRODUCTION)),
    drawTiles(report),
    element('h2', {}, 'Memory and work of each rank'),
    MEMORY_LEGEND,
    drawRanks(report),
    drawAlternatives(report),
    element('h2', {}, 'The network, in the order in which it runs'),
    drawLegend(meanings),
    drawNetwork(report, meanings),
    drawWhole(report),
  ];
  return [
    '<!doctype html>',
    '<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width">',
    element('title', {}, escapeText(title)),
    `<style>${STYLE}</style></head>`,
    element('body', {}, ...body),
    '</html>\n',
  ].join('\n');
};
