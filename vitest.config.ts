import { defineConfig } from 'vitest/config';

// Tests import the compiled product through `#tandem/*` (see package.json), so that what is tested is what ships
// and so that worker processes and threads start from the same files as in use.
export default defineConfig({
  test: {
    include: ['test/**/*.test.ts'],
    testTimeout: 180_000,
    hookTimeout: 180_000,
    pool: 'forks',
    maxWorkers: 2,
  },
});
