/** Files of this package, as whoever reads a message or a help text can name them: in a clone, or below `node_modules`. */
import { relative } from 'node:path';
import { fileURLToPath } from 'node:url';

// From dist/common/ as from an installed package, the package's root is two folders up.
const ROOT = fileURLToPath(new URL('../..', import.meta.url));

/** The path of one of the package's files or folders, as seen from the working directory. */
export const ownPath = (path: string): string => relative(process.cwd(), `${ROOT}${path}`);
