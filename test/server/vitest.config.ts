import { defineConfig } from 'vitest/config';

// What takes minutes, a browser or programs of others, and so is not part of `npm test`: `npm run test:browser`, `screenshots`,
// `test:load` and `test:contracts`.
export default defineConfig({
  test: {
    include: ['page.browser', 'screenshots', 'load', 'contracts'].map((name) => `test/server/${name}.ts`),
    testTimeout: 900_000,
    hookTimeout: 120_000,
    pool: 'forks',
    maxWorkers: 1,
    disableConsoleIntercept: true,
  },
});
