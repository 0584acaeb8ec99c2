/**
 * The pictures of the page in the docs (`npm run screenshots`): the real page of a real server in Chromium, on a desk, in the dark, on
 * a phone, and with the hint for a word that the model never met. Prompts and seeds are fixed.
 */
import type { Browser, BrowserContextOptions, Page } from 'playwright-core';
import { afterAll, beforeAll, it } from 'vitest';
import { openBrowser } from './browser.js';
import { type Served, startReady } from './helpers.js';

const FOLDER = 'coordinator/server/docs';
const DESK = { viewport: { width: 1180, height: 800 }, deviceScaleFactor: 1.5 } as const;
const PHONE = { viewport: { width: 390, height: 844 }, deviceScaleFactor: 2, hasTouch: true } as const;

let served: Served;
let browser: Browser;
beforeAll(async () => {
  served = await startReady();
  browser = await openBrowser();
});
afterAll(async () => {
  await browser?.close();
  await served?.stop();
});

const draw = async (page: Page, prompt: string, seed: number): Promise<void> => {
  await page.getByLabel('Prompt', { exact: true }).fill(prompt);
  await page.locator('#seed').evaluate((field, value) => Reflect.set(field, 'value', value), String(seed));
  await page.getByRole('button', { name: 'Generate' }).click();
  await page.getByText(/^Step \d+ of/).waitFor();
  await page.getByText(/Done in/).waitFor();
};

/** Opens the page, draws the prompts, and keeps what is to be seen then. */
const take = async (
  name: string,
  options: BrowserContextOptions,
  prompts: readonly (readonly [prompt: string, seed: number])[],
): Promise<void> => {
  // Nothing is to be seen half-way.
  const context = await browser.newContext({ ...options, reducedMotion: 'reduce' });
  const page = await context.newPage();
  await page.goto(served.url);
  await page.locator('#badge', { hasText: 'ready' }).waitFor();
  for (const [prompt, seed] of prompts) await draw(page, prompt, seed);
  await page.locator('#badge', { hasText: 'ready' }).waitFor();
  await page.mouse.move(0, 0);
  await page.evaluate('document.activeElement.blur(); scrollTo(0, 0)');
  await page.screenshot({ path: `${FOLDER}/${name}.jpg`, type: 'jpeg', quality: 82, fullPage: true });
  await context.close();
};

it('on a desk', () =>
  take('page', { ...DESK, colorScheme: 'light' }, [
    ['a rainbow', 1],
    ['a hamburger', 2],
    ['a frog', 3],
    ['a unicorn', 4],
    ['a red apple', 5],
  ]));

it('in the dark', () =>
  take('page-dark', { ...DESK, colorScheme: 'dark' }, [
    ['a gift', 1],
    ['a skull', 2],
    ['an airplane', 3],
    ['a sunflower', 4],
  ]));

it('on a phone', () =>
  take('page-phone', { ...PHONE, colorScheme: 'dark' }, [
    ['a frog', 3],
    ['a hamburger', 2],
    ['a red apple', 5],
  ]));

it('with the hint for a word that the model never met', () =>
  take('page-hint', { ...PHONE, colorScheme: 'light' }, [['a kitten on a skateboard', 6]]));
