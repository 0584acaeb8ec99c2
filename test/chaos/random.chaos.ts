import { appendFileSync, existsSync, readFileSync } from 'node:fs';
import { expect, it } from 'vitest';
import { Detections, hasDisks, runCase, undisturbed } from './run.js';
import { CASES, type Fault, nameOf } from './table.js';

const RUNS = Number(process.env.TANDEM_CHAOS_RUNS ?? 50);
/** A file of all runs, one a line, that several calls of this add to: long ones come in pieces. */
const LOG = process.env.TANDEM_CHAOS_LOG;
/** A case every so often: none is disturbed by more of them than the machine has cores. */
const AT_ONCE = 2;
const TELL_EVERY = 20;

interface Run {
  readonly name: string;
  readonly fault: Fault;
  readonly detectionMs?: number;
  readonly failed?: string;
}

const earlier = (): readonly Run[] =>
  LOG !== undefined && existsSync(LOG)
    ? readFileSync(LOG, 'utf8')
        .split('\n')
        .filter(Boolean)
        .map((line) => JSON.parse(line))
    : [];

const tell = (runs: readonly Run[]): void => {
  const detections = new Detections();
  const failed = runs.filter((run) => run.failed !== undefined);
  for (const { fault, detectionMs } of runs.filter((run) => run.failed === undefined))
    detections.add(fault, { detectionMs });
  const told = failed.map(({ name, failed: why }) => `${name}: ${why}`);
  console.log(`${runs.length} runs, ${failed.length} failed\n${detections.table()}\n${told.join('\n')}`);
};

it(`survives ${RUNS} rows of the table at random`, async () => {
  const digests = await undisturbed();
  const cases = CASES.filter(({ fault }) => fault !== 'disk-full' || hasDisks);
  const runs: Run[] = [...earlier()];
  const before = runs.length;
  const add = (run: Run): void => {
    runs.push(run);
    if (LOG !== undefined) appendFileSync(LOG, `${JSON.stringify(run)}\n`);
    if ((runs.length - before) % TELL_EVERY === 0) tell(runs);
  };
  let begun = 0;
  const work = async (): Promise<void> => {
    while (begun < RUNS) {
      begun += 1;
      const one = cases[Math.floor(Math.random() * cases.length)];
      if (one === undefined) continue;
      const run = { name: nameOf(one), fault: one.fault };
      await runCase(one, digests).then(
        ({ detectionMs }) => add({ ...run, ...(detectionMs === undefined ? {} : { detectionMs }) }),
        (error: unknown) => add({ ...run, failed: String(error) }),
      );
    }
  };
  await Promise.all(Array.from({ length: AT_ONCE }, work));
  tell(runs);
  expect(runs.slice(before).filter((run) => run.failed !== undefined)).toEqual([]);
});
