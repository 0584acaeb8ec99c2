import { afterAll, beforeAll, describe, it } from 'vitest';
import { Detections, hasDisks, runCase, undisturbed } from './run.js';
import { CASES, isBrief, nameOf } from './table.js';

let digests: readonly string[] = [];
const detections = new Detections();

beforeAll(async () => {
  digests = await undisturbed();
});
afterAll(() => console.log(detections.table()));

describe.concurrent('no wrong output, no hang and no process left, whatever is done to whom and when', () => {
  for (const one of CASES.filter((one) => !isBrief(one)))
    it.runIf(one.fault !== 'disk-full' || hasDisks)(nameOf(one), async () =>
      detections.add(one.fault, await runCase(one, digests)),
    );
});
