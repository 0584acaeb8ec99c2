/**
 * What others say of the server's contracts (`npm run test:contracts`): OpenAI's Python client, Redocly's linter of the OpenAPI
 * document, Prometheus' linter of the metrics. Needs Python with `openai` (PYTHON names it), npx and promtool, and so is not part
 * of `npm test`.
 */
import { execFile } from 'node:child_process';
import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { afterAll, beforeAll, expect, it } from 'vitest';
import { fileDirectory } from '../support/directory.js';
import { type Served, startReady } from './helpers.js';

const run = promisify(execFile);
const KEY = 'a-key-for-this-test-only';

let served: Served;
const directory = fileDirectory();
beforeAll(async () => {
  served = await startReady({ apiKey: KEY });
});
afterAll(async () => {
  await served.stop();
});

const saved = async (path: string, name: string): Promise<string> => {
  const response = await fetch(`${served.url}${path}`, { headers: { authorization: `Bearer ${KEY}` } });
  const file = join(directory, name);
  await writeFile(file, await response.text());
  return file;
};

it("OpenAI's Python client works with every field, event and error", async () => {
  const { stdout } = await run(process.env.PYTHON ?? 'python3', ['test/server/openai_client.py', served.url, KEY]);
  expect(stdout).toMatch(/^OK /);
});

it('the OpenAPI document has no errors by a linter', async () => {
  const file = await saved('/openapi.json', 'openapi.json');
  const { stdout, stderr } = await run('npx', ['--yes', '@redocly/cli@2', 'lint', '--extends=recommended', file]);
  expect(`${stdout}${stderr}`).toMatch(/Your API description is valid/);
});

it('the metrics have no errors by promtool', async () => {
  const file = await saved('/metrics', 'metrics.txt');
  const { stdout, stderr } = await run('sh', ['-c', `promtool check metrics < ${file}`]);
  expect(`${stdout}${stderr}`).toBe('');
});
