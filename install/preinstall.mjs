/**
 * Runs where Tandem is installed as a package. npm runs every package's `preinstall` before any `postinstall`, so this is in time to keep
 * onnxruntime-node's from downloading: it lays `install/global-agent` beside that script, which says why. Nothing is changed that is there
 * already, and nothing is lost where scripts are not run at all, as then nothing is downloaded either.
 */
import { cpSync, existsSync } from 'node:fs';
import { createRequire } from 'node:module';
import { dirname, join, sep } from 'node:path';
import { fileURLToPath } from 'node:url';

const here = dirname(fileURLToPath(import.meta.url));

/** The runtime's folder; undefined where it is not installed beside us. */
const findRuntime = () => {
  const paths = createRequire(import.meta.url).resolve.paths('onnxruntime-node') ?? [];
  return paths.map((path) => join(path, 'onnxruntime-node')).find((path) => existsSync(join(path, 'package.json')));
};

/** In a clone, package.json's `overrides` has done it. */
const isInstalled = here.split(sep).includes('node_modules');

const runtime = isInstalled ? findRuntime() : undefined;
const target = runtime && join(runtime, 'node_modules', 'global-agent');
if (target && !existsSync(target)) cpSync(join(here, 'global-agent'), target, { recursive: true });
