import { configDefaults, defineConfig } from 'vitest/config';

// Tests import the compiled product through `#tandem/*` (see package.json), so that what is tested is what ships
// and so that worker processes and threads start from the same files as in use.
// `*.long.test.ts` are the wide ones, every export and every way of splitting: `npm run test:long` runs those alone.
const long = process.env.TANDEM_TESTS === 'long';

export default defineConfig({
  test: {
    include: [long ? 'test/**/*.long.test.ts' : 'test/**/*.test.ts'],
    exclude: [...configDefaults.exclude, ...(long ? [] : ['test/**/*.long.test.ts'])],
    testTimeout: 180_000,
    hookTimeout: 180_000,
    pool: 'forks',
    maxWorkers: 2,
  },
});
