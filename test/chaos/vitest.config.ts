import { defineConfig } from 'vitest/config';

// What takes as long as one likes: `TANDEM_CHAOS_RUNS=500 npm run chaos`, `TANDEM_FUZZ_RUNS=100000 npm run fuzz`,
// `SOAK_MINUTES=60 npm run soak`.
export default defineConfig({
  test: {
    include: ['test/chaos/**/*.chaos.ts', 'test/fuzz/**/*.fuzz.ts', 'test/soak/*.soak.ts'],
    testTimeout: 24 * 3600 * 1000,
    hookTimeout: 180_000,
    pool: 'forks',
    maxWorkers: 1,
    disableConsoleIntercept: true,
  },
});
