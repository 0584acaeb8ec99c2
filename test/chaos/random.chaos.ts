import { expect, it } from 'vitest';
import { Detections, hasDisks, runCase, undisturbed } from './run.js';
import { CASES, nameOf } from './table.js';

const RUNS = Number(process.env.TANDEM_CHAOS_RUNS ?? 50);
/** A case every so often: none is disturbed by more of them than the machine has cores. */
const AT_ONCE = 2;
const TELL_EVERY = 20;

it(`survives ${RUNS} rows of the table at random`, async () => {
  const digests = await undisturbed();
  const detections = new Detections();
  const failed: string[] = [];
  const cases = CASES.filter(({ fault }) => fault !== 'disk-full' || hasDisks);
  let begun = 0;
  let ended = 0;
  const work = async (): Promise<void> => {
    while (begun < RUNS) {
      begun += 1;
      const one = cases[Math.floor(Math.random() * cases.length)];
      if (one === undefined) continue;
      await runCase(one, digests).then(
        (report) => detections.add(one.fault, report),
        (error: unknown) => failed.push(`${nameOf(one)}: ${String(error)}`),
      );
      ended += 1;
      if (ended % TELL_EVERY === 0 || ended === RUNS)
        console.log(`${ended} runs, ${failed.length} failed\n${detections.table()}\n${failed.join('\n')}`);
    }
  };
  await Promise.all(Array.from({ length: AT_ONCE }, work));
  expect(failed).toEqual([]);
});
