/**
 * Plans of the largest networks at their published widths, from exports without weights: `npm run measure -- widths` prints a row a
 * network and number of ranks (`MODEL=flux2` for one). The first row of a network includes reading and folding it.
 */
import { it } from 'vitest';
import { decide } from '#tandem/partition/decide/decide.js';
import { makeReport } from '#tandem/partition/decide/report.js';
import { countGathers, countSums, readFixture } from '../partition/stages.js';

const MODELS = ['wan', 'flux2', 'qwenimage'] as const;
const RANKS = [2, 4, 8] as const;

const percent = (share: number): string => `${(share * 100).toFixed(1)} %`;

it.each(MODELS.filter((name) => name.startsWith(process.env.MODEL ?? '')))('prints the plans of %s', async (name) => {
  console.log('| model | ranks | weights | operations | sums | gathers | rounds | GiB a rank | MB a step | seconds |');
  let start = Date.now();
  const graph = await readFixture(`families/${name}-dynamo18-real`);
  for (const ranks of RANKS) {
    const devices = Array.from({ length: ranks }, () => ({ provider: 'cpu', deviceId: 0, speed: 1 }) as const);
    const scopes = new Map();
    const decided = decide(graph, { devices, wire: 'fp32', split: 'tensor', scopes, finish: (programs) => programs });
    const report = makeReport(decided);
    const row = [
      name,
      ranks,
      percent(report.sharded_weight_fraction),
      percent(report.sharded_flop_fraction),
      countSums(report),
      countGathers(report),
      report.segments - 1,
      (Math.max(...report.ranks.map(({ weight_bytes }) => weight_bytes)) / 2 ** 30).toFixed(1),
      (report.wire_bytes_per_step / 1e6).toFixed(0),
      ((Date.now() - start) / 1000).toFixed(0),
    ];
    console.log(`| ${row.join(' | ')} |`);
    start = Date.now();
  }
});
