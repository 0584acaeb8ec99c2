import { describe, expect, it } from 'vitest';
import { corpus, retry } from './run.js';

describe('what fuzzers once found', () => {
  it.each(corpus())('is harmless now: $target, $found', async (kept) => {
    expect(await retry(kept)).toBeUndefined();
  });
});
