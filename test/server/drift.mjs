// Loaded into workers by NODE_OPTIONS: while the file exists that TANDEM_TEST_DRIFT names, each worker's digests are its own, as
// those of a device whose memory has changed would be.
import crypto from 'node:crypto';
import { existsSync } from 'node:fs';
import { syncBuiltinESMExports } from 'node:module';

const { createHash } = crypto;
crypto.createHash = (...options) => {
  const hash = createHash(...options);
  return existsSync(process.env.TANDEM_TEST_DRIFT ?? '') ? hash.update(String(process.pid)) : hash;
};
syncBuiltinESMExports();
