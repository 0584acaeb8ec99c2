/** The page in a real browser (`npm run test:browser`). */
import type { Browser, Page } from 'playwright-core';
import { afterAll, beforeAll, expect, it } from 'vitest';
import { openBrowser } from './browser.js';
import { health, type Served, startReady, until } from './helpers.js';

let served: Served;
let browser: Browser;
let page: Page;
const problems: string[] = [];

beforeAll(async () => {
  served = await startReady();
  browser = await openBrowser();
  page = await browser.newPage({ viewport: { width: 1180, height: 900 }, colorScheme: 'light' });
  page.on('console', (message) => message.type() === 'error' && problems.push(message.text()));
  page.on('pageerror', (error) => problems.push(error.message));
  page.on('request', (request) => {
    if (!request.url().startsWith(served.url) && !request.url().startsWith('data:')) problems.push(request.url());
  });
  await page.goto(served.url);
});

afterAll(async () => {
  await browser?.close();
  await served?.stop();
});

const draw = async (prompt: string): Promise<void> => {
  await page.getByLabel('Prompt', { exact: true }).fill(prompt);
  await page.getByRole('button', { name: 'Generate' }).click();
};

const picture = () => page.getByRole('img', { name: /./ }).and(page.locator('#picture'));

it('says that the server is ready and shows every rank', async () => {
  await page.locator('#badge', { hasText: 'ready' }).waitFor();
  for (const rank of [0, 1]) await page.getByText(`Rank ${rank} on cpu:0`).waitFor();
});

it('draws what was typed: the picture appears while it is made, then whole', async () => {
  await draw('a red apple');
  await page.locator('#tag', { hasText: 'step' }).waitFor();
  expect(Number(await page.getByRole('progressbar').getAttribute('aria-valuenow'))).toBeGreaterThan(0);
  await page.getByText(/Done in .* Seed \d+/).waitFor();
  expect(await picture().getAttribute('alt')).toBe('a red apple');
  expect(await picture().evaluate((image) => Reflect.get(image, 'naturalWidth') > 0)).toBe(true);
  expect(await page.getByRole('link', { name: 'Save PNG' }).getAttribute('href')).toMatch(/^data:image\/png/);
});

it('draws the same picture again for the same seed', async () => {
  const first = await picture().getAttribute('src');
  await page.getByRole('button', { name: 'Use last' }).click();
  await draw('a red apple');
  await page.getByText(/^Step \d+ of/).waitFor();
  await page.getByText(/Done in/).waitFor();
  expect(await picture().getAttribute('src')).toBe(first);
  await page.getByLabel('Seed').fill('');
});

it('stops when told to, and so does the server', async () => {
  await draw('a green tree');
  await page.getByText(/^Step \d+ of/).waitFor();
  await page.getByRole('button', { name: 'Cancel' }).click();
  await page.getByText('Cancelled.').waitFor();
  await until(async () => (await health(served.url)).requests_running === 0);
});

it('keeps the pictures so far, and can be used from the keyboard', async () => {
  await page.getByLabel('Prompt', { exact: true }).fill('a blue heart');
  await page.keyboard.press('Control+Enter');
  await page.getByText(/^Step \d+ of/).waitFor();
  await page.getByText(/Done in/).waitFor();
  expect(await page.getByRole('list', { name: 'Pictures so far' }).getByRole('button').count()).toBe(3);
});

it('offers examples, each of which draws what it says', async () => {
  const examples = page.getByRole('list', { name: 'Examples' }).getByRole('button');
  expect(await examples.count()).toBeGreaterThan(4);
  await examples.filter({ hasText: 'a frog' }).click();
  expect(await page.getByLabel('Prompt', { exact: true }).inputValue()).toBe('a frog');
  await page.getByText(/^Step \d+ of/).waitFor();
  await page.getByText(/Done in/).waitFor();
  expect(await picture().getAttribute('alt')).toBe('a frog');
});

it('offers sizes, and says that one is prepared when it is first asked for', async () => {
  const sizes = page.getByLabel('Size');
  const other = sizes.getByRole('option').filter({ hasText: '64 × 96 (takes a while the first time)' });
  await sizes.selectOption({ value: String(await other.getAttribute('value')) });
  await draw('a snowman');
  await page.getByText(/^Preparing 64x96, once/).waitFor();
  await page.getByText(/Done in/).waitFor({ timeout: 300_000 });
  const shape = await picture().evaluate((image) => [
    Reflect.get(image, 'naturalWidth'),
    Reflect.get(image, 'naturalHeight'),
  ]);
  expect(shape).toEqual([64, 96]);
  await sizes.selectOption('64x64');
});

it('shows what was done differently from what was asked', async () => {
  await page.getByLabel('Negative prompt').fill('blurry');
  await page.getByLabel('Guidance').fill('0');
  await draw('a red apple');
  await page.getByText(/Done in/).waitFor();
  expect(await page.getByRole('list', { name: 'Warnings' }).textContent()).toMatch(/negative prompt/i);
  await page.getByLabel('Negative prompt').fill('');
  await page.getByLabel('Guidance').fill('3');
});

it('says which words the model never met, and what it knows that is nearest', async () => {
  await draw('a blue whale');
  await page.getByText(/Done in/).waitFor();
  expect(await page.getByRole('list', { name: 'Warnings' }).textContent()).toMatch(/never met "whale".*"a blue heart"/);
  await draw('a blue heart');
  await page.getByText(/^Step \d+ of/).waitFor();
  await page.getByText(/Done in/).waitFor();
  expect(await page.getByRole('list', { name: 'Warnings' }).isHidden()).toBe(true);
});

it('fits a phone, in the dark as well', async () => {
  await page.setViewportSize({ width: 390, height: 844 });
  await page.emulateMedia({ colorScheme: 'dark' });
  const overflow = await page.evaluate('document.documentElement.scrollWidth - document.documentElement.clientWidth');
  expect(overflow).toBe(0);
  expect(await page.getByRole('button', { name: 'Generate' }).isVisible()).toBe(true);
  expect(await page.getByLabel('Seed').isVisible()).toBe(false);
  await page.getByText('Settings').click();
  expect(await page.getByLabel('Seed').isVisible()).toBe(true);
});

it('has said nothing on the console and asked nobody else for anything', () => {
  expect(problems).toEqual([]);
});
