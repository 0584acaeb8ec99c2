/** Builds `dist/` in a clone. Without the development dependencies (`npm ci --omit=dev`) there is no compiler: what is built stays. */
import { spawnSync } from 'node:child_process';
import { existsSync } from 'node:fs';
import { createRequire } from 'node:module';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';

const root = dirname(dirname(fileURLToPath(import.meta.url)));

const findCompiler = () => {
  const paths = createRequire(import.meta.url).resolve.paths('typescript') ?? [];
  return paths.map((path) => join(path, 'typescript', 'bin', 'tsc')).find(existsSync);
};

const compiler = findCompiler();
if (compiler) {
  process.exitCode =
    spawnSync(process.execPath, [compiler, '-p', 'tsconfig.json'], { cwd: root, stdio: 'inherit' }).status ?? 1;
} else if (!existsSync(join(root, 'dist', 'coordinator', 'main.js'))) {
  process.stderr.write(
    'tandem: dist/ is not built, and TypeScript, a development dependency, is not installed. Run `npm ci` and then `npm prune --omit=dev`, or copy a built dist/ here.\n',
  );
}
