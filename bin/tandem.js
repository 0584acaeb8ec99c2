#!/usr/bin/env node
// Committed with its executable bit, so that `npx tandem` works in a clone however often dist/ is deleted and rebuilt.
import '../dist/coordinator/main.js';
