#!/usr/bin/env node
// Committed with its executable bit, so that `npx tandem` works in a clone however often dist/ is deleted and rebuilt.
import { addressSpaceProblem } from './address-space.js';

const problem = addressSpaceProblem();
if (problem === undefined) await import('../dist/coordinator/main.js');
else {
  process.stderr.write(problem);
  process.exitCode = 1;
}
