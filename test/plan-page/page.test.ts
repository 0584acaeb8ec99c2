/** The plan as a page. */
import { beforeAll, expect, it } from 'vitest';
import { drawPlanPage } from '#tandem/coordinator/plan-page/page.js';
import { type PlanReport, plan } from '#tandem/partition/index.js';
import { graphOnly } from '../fixtures/materialise.js';
import { inDirectory } from '../partition/stages.js';

const reportOf = (worldSize: number): Promise<PlanReport> =>
  inDirectory(async (directory) =>
    plan({
      model: { path: await graphOnly('tiny-ts17', directory) },
      devices: Array.from({ length: worldSize }, () => ({
        provider: 'cpu',
        deviceId: 0,
        speed: 1,
        memoryLimit: 2 ** 30,
      })),
      dims: {},
      wire: 'fp32',
    }),
  );

let dual: PlanReport;
let single: PlanReport;
beforeAll(async () => {
  dual = await reportOf(2);
  single = await reportOf(1);
});

it('shows every block, every exchange with its bytes, and every rank with its memory', () => {
  const page = drawPlanPage(dual, 'tiny');
  expect(page.match(/class="pill"/g)).toHaveLength(dual.collective_count);
  expect(page.match(/class="block( minor)?"/g)).toHaveLength(dual.blocks.length);
  expect(page.match(/class="memory"/g)).toHaveLength(2);
  expect(page.match(/class="limit"/g)).toHaveLength(2);
  expect(page).toContain('<h1>tiny on 2 devices</h1>');
  expect(page).toContain('⇄ all-reduce');
});

it('needs nothing but the file, and knows dark from light', () => {
  const page = drawPlanPage(dual, 'tiny');
  expect(page).not.toMatch(/<script|<link|https?:|url\(|@import/);
  expect(page).toContain('prefers-color-scheme:dark');
});

it('closes every element that it opens', () => {
  const page = drawPlanPage(single, 'tiny');
  for (const tag of ['div', 'span', 'details', 'summary', 'table', 'tr', 'td', 'body', 'html']) {
    const count = (pattern: RegExp) => page.match(pattern)?.length ?? 0;
    expect(count(new RegExp(`<${tag}[ >]`, 'g')), tag).toBe(count(new RegExp(`</${tag}>`, 'g')));
  }
});

it('takes names for text, whatever is in them', () => {
  const page = drawPlanPage(single, '<img src=x onerror=alert(1)> & "co"');
  expect(page).toContain('&lt;img src=x onerror=alert(1)&gt; &amp; &quot;co&quot; on one device');
  expect(page).not.toContain('<img');
});
