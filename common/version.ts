/** The package's own version, from its package.json. */
import { createRequire } from 'node:module';

// From dist/common/ as from an installed package, the package's root is two folders up.
const packageJson: unknown = createRequire(import.meta.url)('../../package.json');

export const TOOL_VERSION: string =
  typeof packageJson === 'object' && packageJson !== null ? String(Reflect.get(packageJson, 'version')) : 'unknown';
