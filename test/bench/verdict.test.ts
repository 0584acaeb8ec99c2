import { describe, expect, it } from 'vitest';
import type { BenchRunReport } from '#tandem/coordinator/bench/bench.js';
import { verdict } from '#tandem/coordinator/bench/verdict.js';

const run = (name: string, values: readonly number[], compute: number, exchange: number): BenchRunReport => {
  const p50 = [...values].sort((a, b) => a - b)[Math.floor(values.length / 2)] ?? 0;
  return {
    name,
    world_size: 1,
    threads: 1,
    load_ms: 1,
    step_ms: { p50, p99: p50, mean: p50, samples: values.length, values },
    phases_ms: { compute, exchange, control: 1 },
    exchange_ms_per_step: exchange,
    predicted: null,
    wire_bytes_per_step: 0,
    workers: [{ rank: 0, pid: 1, weight_bytes: 0, peak_private_bytes: 50 * 2 ** 20, mapped_bytes: 0 }],
  };
};

describe('the verdict of a bench', () => {
  it('says how much faster the last run is than the first, and why', () => {
    const runs = [run('one', [98, 100, 102, 104, 106], 99, 0), run('two', [58, 59, 60, 61, 62], 50, 9)];
    expect(verdict({ runs, plain: null })).toBe(
      'two is 1.70 times as fast as one: a step takes 60.0 ms (half of all: 59.0 ms to 61.0 ms) against 102 ms (half of all: 100 ms to 104 ms), as a worker computes 49.0 ms less a step, and exchange and control take 9.00 ms more; its largest worker takes 50.0 MiB of memory against 50.0 MiB.',
    );
  });

  it('says that it is slower where it is', () => {
    const runs = [run('one', [16, 16, 16], 15, 0), run('two', [53, 53, 53], 12, 40)];
    expect(verdict({ runs, plain: null })).toMatch(/^two takes 3\.31 times as long as one: /);
  });

  it('does not call a difference within the spread one', () => {
    const runs = [run('one', [90, 100, 110], 99, 0), run('two', [95, 98, 112], 90, 9)];
    expect(verdict({ runs, plain: null })).toMatch(/^two is neither clearly faster nor slower than one: /);
  });

  it('compares a single run with plain ONNX Runtime', () => {
    expect(verdict({ runs: [run('one', [50], 49, 0)], plain: run('plain', [100], 99, 0) })).toMatch(
      /^one is 2\.00 times as fast as plain: /,
    );
  });
});
