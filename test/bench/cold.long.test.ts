import { existsSync, readFileSync } from 'node:fs';
import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { drawColdReport } from '#tandem/coordinator/bench/cold-chart.js';
import type { ColdReport, ColdStart } from '#tandem/coordinator/bench/cold-report.js';
import { LoadPhases } from '#tandem/coordinator/bench/load-phases.js';
import { bytesFromDisk, dropPageCache, readSequentially } from '#tandem/coordinator/bench/page-cache.js';
import { makeScratch, start as startTandem, tandem } from '../cli/tandem.js';
import { errorOf } from '../cluster/helpers.js';
import { materialise } from '../fixtures/materialise.js';

const scratch = makeScratch();
afterAll(scratch.remove);

const start = (page_cache: ColdStart['page_cache'], load_ms: number): ColdStart => ({
  page_cache,
  load_ms,
  phases_ms: { process: 100, read: null, session: load_ms - 100, warm_up: 50 },
  first_step_ms: load_ms + 50,
  first_image_ms: null,
  disk_read_bytes: null,
  read_bytes_per_s: null,
  private_bytes: 1,
});

describe('tandem bench --cold', () => {
  let report: ColdReport;
  const chart = join(scratch.path, 'cold.svg');

  beforeAll(async () => {
    await materialise('tiny-ts17', scratch.path);
    const model = join(scratch.path, 'model.onnx');
    const sizes = ['--tensor-parallel-size', '1,2', '--threads', '1'];
    const args = ['bench', model, ...sizes, '--cold', '--chart', chart, '--json'];
    const ended = await startTandem(args, scratch.path).ended;
    if (ended.status !== 0) throw new Error(ended.stderr);
    report = JSON.parse(ended.stdout);
  });

  it('starts one worker, two workers and plain ONNX Runtime, with cold and with warm files', () => {
    expect(report.runs.map(({ name, world_size }) => [name, world_size])).toEqual([
      ['tensor-parallel-1', 1],
      ['tensor-parallel-2', 2],
    ]);
    for (const run of [...report.runs, report.plain]) {
      expect(run?.starts.map(({ page_cache }) => page_cache)).toEqual(['cold', 'warm']);
      const [cold, warm] = run?.starts ?? [];
      // The small model's code is read from memory, its weights are not.
      expect(cold?.disk_read_bytes).toBeGreaterThan((run?.file_bytes ?? 0) / 2);
      expect(cold?.read_bytes_per_s).toBeGreaterThan(0);
      expect(cold?.read_bytes_per_s).toBeLessThanOrEqual(((cold?.disk_read_bytes ?? 0) / (cold?.load_ms ?? 1)) * 1000);
      expect(warm?.read_bytes_per_s).toBeNull();
      for (const { load_ms, phases_ms, first_step_ms, first_image_ms, private_bytes } of run?.starts ?? []) {
        expect(phases_ms.process + Math.max(phases_ms.read ?? 0, phases_ms.session)).toBeLessThanOrEqual(load_ms);
        expect(first_step_ms).toBeCloseTo(load_ms + phases_ms.warm_up, 6);
        expect(first_image_ms).toBeNull();
        expect(private_bytes).toBeGreaterThan(1e6);
      }
    }
    expect(report.plain?.threads).toBe(2);
    expect(report.disk_read_bytes_per_s).toBeGreaterThan(0);
  });

  it('compares the last run with plain in both states', () => {
    const [dual, plain] = [report.runs.at(-1), report.plain];
    for (const [index, cache] of (['cold', 'warm'] as const).entries()) {
      const ratio = (plain?.starts[index]?.load_ms ?? 0) / (dual?.starts[index]?.load_ms ?? 1);
      expect(report.speedup.load?.[cache]).toBeCloseTo(ratio, 6);
    }
  });

  it('draws a bar for each start', () => {
    expect(existsSync(chart)).toBe(true);
    const svg = readFileSync(chart, 'utf8');
    for (const label of ['tensor-parallel-1, cold files', 'tensor-parallel-2, warm files', 'plain, warm files']) {
      expect(svg).toContain(label);
    }
  });

  it('refuses a state of the page cache that it does not know', async () => {
    const unknown = await tandem(['bench', 'x.onnx', '--cold', '--page-cache', 'lukewarm'], scratch.path);
    expect(unknown.status).toBe(2);
    expect(unknown.stderr).toMatch(/cold, warm, both/);
  });
});

describe('the chart of cold starts', () => {
  it('gives every start its length, in proportion', () => {
    const run = {
      name: 'a<b',
      world_size: 1,
      threads: 1,
      file_bytes: 1,
      starts: [start('cold', 4000), start('warm', 400)],
    };
    const svg = drawColdReport({
      model: 'm',
      dims: {},
      disk_read_bytes_per_s: null,
      runs: [run],
      plain: null,
      speedup: { load: null },
    });
    expect(svg).toContain('a&lt;b, cold files');
    expect(svg).toContain('4.05 s');
    expect(svg).toContain('0.45 s');
    expect(svg).not.toContain('NaN');
    expect(svg.match(/<rect /g)?.length).toBe(1 + 3 + 2 * 4);
  });
});

describe('the page cache', () => {
  it('forgets files that are dropped, and delivers them from the disk again', async () => {
    const file = join(scratch.path, 'pages.bin');
    await writeFile(file, new Uint8Array(8 << 20).fill(1));
    const before = bytesFromDisk(process.pid) ?? 0;
    await dropPageCache([file]);
    expect((await readSequentially([file])).bytes).toBe(8 << 20);
    expect((bytesFromDisk(process.pid) ?? 0) - before).toBeGreaterThan(4 << 20);
  });

  it('says what it takes where a file cannot be dropped', async () => {
    const error = await errorOf(dropPageCache([join(scratch.path, 'missing.bin')]));
    expect(error.code).toBe('PAGE_CACHE');
    expect(error.message).toMatch(/--page-cache warm/);
  });
});

it("load phases end with the last rank's last report", () => {
  const phases = new LoadPhases();
  phases.add('check', 5, 10);
  phases.add('load', 1, 2);
  phases.add('load', 2, 2);
  const { session } = phases.summary();
  phases.add('check', 20, 20);
  const { process, read } = phases.summary();
  expect(process).toBeGreaterThanOrEqual(0);
  expect(read).toBeGreaterThanOrEqual(session);
});
