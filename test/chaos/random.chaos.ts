import { expect, it } from 'vitest';
import { Detections, runCase, undisturbed } from './run.js';
import { CASES, nameOf } from './table.js';

const RUNS = Number(process.env.TANDEM_CHAOS_RUNS ?? 50);

it(`survives ${RUNS} rows of the table at random`, async () => {
  const digests = await undisturbed();
  const detections = new Detections();
  const failed: string[] = [];
  for (let run = 0; run < RUNS; run++) {
    const one = CASES[Math.floor(Math.random() * CASES.length)];
    if (one === undefined) continue;
    await runCase(one, digests).then(
      (report) => detections.add(one.fault, report),
      (error: unknown) => failed.push(`${nameOf(one)}: ${String(error)}`),
    );
  }
  console.log(`${RUNS} runs, ${failed.length} failed\n${detections.table()}`);
  expect(failed).toEqual([]);
});
