/** Alerts, dashboard and probes speak of what is there: every metric, label and endpoint that they name is a running server's. */
import { readFileSync } from 'node:fs';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { parse } from 'yaml';
import { z } from 'zod';
import { freePort, type Served, startReady } from '../server/helpers.js';
import { CHART } from './manifests.js';
import { itWith, run, succeed } from './tools.js';

const ALERTS = `${CHART}/files/alerts.yaml`;
const CASES = 'deploy/monitoring/alerts.test.yaml';
const HEALTH = 'deploy/docker/health.mjs';
const KEY = 'a-key-for-this-test-only';

const rules = z
  .object({ groups: z.array(z.object({ rules: z.array(z.object({ alert: z.string(), expr: z.string() })) })) })
  .parse(parse(readFileSync(ALERTS, 'utf8')))
  .groups.flatMap((group) => group.rules);
const dashboard = z
  .object({ panels: z.array(z.object({ title: z.string(), targets: z.array(z.object({ expr: z.string() })) })) })
  .parse(JSON.parse(readFileSync(`${CHART}/files/dashboard.json`, 'utf8')));
const EXPRESSIONS = [
  ...rules.map(({ alert, expr }) => [alert, expr] as const),
  ...dashboard.panels.flatMap(({ title, targets }) => targets.map(({ expr }) => [title, expr] as const)),
  ['autoscaling', readFileSync(`${CHART}/templates/autoscaling.yaml`, 'utf8')] as const,
];

let served: Served;
let metrics: string;
beforeAll(async () => {
  served = await startReady({ apiKey: KEY });
  metrics = await (await fetch(`${served.url}/metrics`, { headers: { authorization: `Bearer ${KEY}` } })).text();
});
afterAll(async () => {
  await served.stop();
});

/** Names of series, with those that a histogram is made of. */
const seriesOf = (text: string): ReadonlySet<string> =>
  new Set(text.split('\n').flatMap((line) => /^([a-z]\w*)[ {]/.exec(line)?.[1] ?? []));

const namesIn = (expression: string): readonly string[] =>
  [...expression.matchAll(/\b(?:tandem|nodejs|process)_\w+/g)].map(([name]) => name);

describe('metrics', () => {
  it.each(EXPRESSIONS)('that "%s" goes by are there', (_, expression) => {
    const names = namesIn(expression);
    expect(names.length).toBeGreaterThan(0);
    const known = seriesOf(metrics);
    expect(names.filter((name) => !known.has(name))).toEqual([]);
  });

  it('have the outcomes that alerts ask for', () => {
    const asked = rules.flatMap(({ expr }) =>
      [...expr.matchAll(/outcome=~?"([^"]+)"/g)].flatMap(([, all = '']) => all.split('|')),
    );
    expect(asked.length).toBeGreaterThan(2);
    for (const outcome of asked) expect(metrics).toContain(`outcome="${outcome}"`);
  });
});

describe('alerts', () => {
  const withPromtool = itWith('promtool');

  withPromtool('are rules without faults', async () => {
    expect(await succeed('promtool', ['check', 'rules', ALERTS])).toMatch(new RegExp(`SUCCESS: ${rules.length} rules`));
  });

  withPromtool('go off when they should, and not when they should not, in a case each', async () => {
    expect(await succeed('promtool', ['test', 'rules', CASES])).toMatch(/SUCCESS/);
    const cases = readFileSync(CASES, 'utf8');
    expect(rules.filter(({ alert }) => !new RegExp(`alertname: ${alert}\\n\\s*exp_alerts:\\n`).test(cases))).toEqual(
      [],
    );
  });

  it('are each explained in the docs', () => {
    const page = readFileSync('docs/operations.md', 'utf8');
    expect(rules.filter(({ alert }) => !page.includes(`| \`${alert}\``)).map(({ alert }) => alert)).toEqual([]);
  });
});

describe('probes', () => {
  const health = (question: string, variables: Readonly<Record<string, string>>) =>
    run(process.execPath, [HEALTH, question], { variables });

  it("of the chart's leader are answered without a key, by addresses that the server describes", async () => {
    const paths = [...readFileSync(`${CHART}/templates/leaderworkerset.yaml`, 'utf8').matchAll(/path: (\/\w+), port/g)];
    expect(paths.map(([, path]) => path)).toEqual(['/live', '/ready', '/live']);
    for (const [, path = ''] of paths) expect((await fetch(`${served.url}${path}`)).status, path).toBe(200);
  });

  it('of containers ask the server, and say what it answered', async () => {
    const TANDEM_PORT = new URL(served.url).port;
    expect(await health('ready', { TANDEM_PORT })).toMatchObject({
      status: 0,
      output: '200 {"ready":true,"reason":null}\n',
    });
    expect(await health('live', { TANDEM_PORT })).toMatchObject({ status: 0 });
    const nobody = await health('ready', { TANDEM_PORT: String(await freePort()) });
    expect(nobody).toMatchObject({ status: 1, output: expect.stringMatching(/ECONNREFUSED/) });
  });
});
