import { defineConfig } from 'vitest/config';

// What takes minutes or a browser, and so is not part of `npm test`: `npm run test:browser`, `test:load` and `test:contracts`.
export default defineConfig({
  test: {
    include: ['test/server/page.browser.ts', 'test/server/load.ts', 'test/server/contracts.ts'],
    testTimeout: 900_000,
    hookTimeout: 120_000,
    pool: 'forks',
    maxWorkers: 1,
    disableConsoleIntercept: true,
  },
});
