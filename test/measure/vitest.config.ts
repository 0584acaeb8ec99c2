import { defineConfig } from 'vitest/config';

// Measurements print tables and assert nothing about time; `npm run measure -- NAME` runs one.
export default defineConfig({
  test: {
    include: ['test/measure/*.measure.ts'],
    testTimeout: 3_600_000,
    hookTimeout: 600_000,
    fileParallelism: false,
    silent: false,
    reporters: [['default', { summary: false }]],
    disableConsoleIntercept: true,
  },
});
