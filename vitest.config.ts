import { configDefaults, defineConfig } from 'vitest/config';
import { CACHE } from './test/support/prepared.js';

// Tests import the compiled product through `#tandem/*` (see package.json), so that what is tested is what ships
// and so that worker processes and threads start from the same files as in use.
// `*.long.test.ts` are the wide ones, every export and every way of splitting: `npm run test:long` runs those alone.
const long = process.env.TANDEM_TESTS === 'long';

export default defineConfig({
  test: {
    include: [long ? 'test/**/*.long.test.ts' : 'test/**/*.test.ts'],
    exclude: [...configDefaults.exclude, ...(long ? [] : ['test/**/*.long.test.ts'])],
    // On a machine whose other work nobody knows, a test of deadlines gets a second try; the report names it.
    retry: process.env.CI ? 1 : 0,
    testTimeout: 180_000,
    hookTimeout: 180_000,
    pool: 'forks',
    // What is built is loaded by Node itself, as in use; Vitest's own loader takes three times as long, and slows its loops down.
    server: { deps: { external: [/\/dist\//] } },
    globalSetup: 'test/support/prepared.ts',
    env: { XDG_CACHE_HOME: CACHE },
    maxWorkers: 2,
  },
});
