/**
 * What others say of the server's contracts (`npm run test:contracts`): OpenAI's Python client, Redocly's linter of the OpenAPI
 * document, Prometheus' linter of the metrics. `test/deploy/install-tools.sh` brings the client and promtool, which is why this is no
 * part of `npm test`; OpenAI's npm client is (`openai.test.ts`). What is not there is told and left out.
 */
import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { createConfig, lintFromString } from '@redocly/openapi-core';
import { afterAll, beforeAll, expect, it } from 'vitest';
import { itWith, run, succeed } from '../deploy/tools.js';
import { fileDirectory } from '../support/directory.js';
import { type Served, startReady } from './helpers.js';

const KEY = 'a-key-for-this-test-only';
const PYTHON = process.env.PYTHON ?? join(process.env.TANDEM_TOOLS ?? '/usr/local', 'lib/tandem-openai/bin/python');

let served: Served;
const directory = fileDirectory();
beforeAll(async () => {
  served = await startReady({ apiKey: KEY });
});
afterAll(async () => {
  await served?.stop();
});

const read = async (path: string): Promise<string> => {
  const response = await fetch(`${served.url}${path}`, { headers: { authorization: `Bearer ${KEY}` } });
  expect(response.status).toBe(200);
  return response.text();
};

itWith(PYTHON)("OpenAI's Python client works with every field, event and error", async () => {
  expect(await succeed(PYTHON, ['test/server/openai_client.py', served.url, KEY])).toMatch(/^OK /);
});

it('the OpenAPI document has no errors by a linter', async () => {
  const config = await createConfig({ extends: ['recommended'] });
  const problems = await lintFromString({ source: await read('/openapi.json'), config });
  const errors = problems.filter(({ severity }) => severity === 'error');
  expect(errors.map(({ ruleId, message, location }) => [ruleId, message, location[0]?.pointer])).toEqual([]);
});

itWith('promtool')('the metrics have no errors by promtool', async () => {
  const file = join(directory, 'metrics.txt');
  await writeFile(file, await read('/metrics'));
  expect(await run('sh', ['-c', `promtool check metrics < ${file}`])).toMatchObject({ status: 0, output: '' });
});
