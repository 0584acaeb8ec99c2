// Packs what `npm run measure -- gpu` needs into out/gpu-kit (Linux x64, at most 60 MiB), for machines without network or Node:
// `npm run pack:gpu`, copy the folder, and run its run.sh there. Weights are made on the spot from a seed.
import { execFileSync } from 'node:child_process';
import { cpSync, mkdirSync, readdirSync, readFileSync, realpathSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { brotliCompressSync, constants, gzipSync } from 'node:zlib';

const LIMIT = 60 * 2 ** 20;
const KIT = 'out/gpu-kit';
const STAGE = 'out/gpu-kit-stage';
// What the measured road imports; the server's and the tokenizers' libraries are not on it.
const ROOTS = [
  '@bufbuild/protobuf',
  '@petamoriken/float16',
  'koffi',
  'msgpackr',
  'onnxruntime-node',
  'piscina',
  'pure-rand',
];
ROOTS.push('systeminformation', 'tinybench', 'yaml', 'zeromq', 'zod', 'fast-png', '@huggingface/tokenizers');
// Native code of other systems, sources and documentation.
const SKIPPED = [
  /\/(darwin|win32|arm64|musl[^/]*)(\/|$)/,
  /^\/(test|docs|doc|script|vendor|build\/deps)(\/|$)/,
  /\.(map|md|d\.[cm]?ts|lib|pdb|cc|h)$/,
  /^\/build\/(lib|main)\.m?js$/,
];
// Of ZeroMQ's builds, all for the same interface of Node, the one that asks for the oldest system.
const ZEROMQ = 'glibc-127-Release';
SKIPPED.push(new RegExp(`/x64/node/(?!${ZEROMQ})`));
const UNUSED = new Set(['node-addon-api', 'adm-zip', 'global-agent', 'shelljs']);

const closure = (names, found = new Set()) => {
  for (const name of names) {
    if (found.has(name) || UNUSED.has(name)) continue;
    let own;
    try {
      own = JSON.parse(readFileSync(join('node_modules', name, 'package.json'), 'utf8'));
    } catch {
      continue; // An optional one that this system does not have.
    }
    found.add(name);
    // Of what builds native code, the loader of what is built.
    if (name === 'cmake-ts') continue;
    closure([...Object.keys(own.dependencies ?? {}), ...Object.keys(own.optionalDependencies ?? {})], found);
  }
  return found;
};

const copy = (from) =>
  cpSync(from, join(STAGE, from), {
    recursive: true,
    filter: (path) => !SKIPPED.some((one) => one.test(path.slice(from.length))),
  });

rmSync(STAGE, { recursive: true, force: true });
rmSync(KIT, { recursive: true, force: true });
mkdirSync(STAGE, { recursive: true });
mkdirSync(KIT, { recursive: true });
for (const folder of ['dist', 'models/showcase', 'models/emoji-sd/unet']) copy(folder);
for (const name of closure(ROOTS)) copy(join('node_modules', name));
for (const file of ['package.json', 'LICENSE']) cpSync(file, join(STAGE, file));

const tar = execFileSync('tar', ['-C', STAGE, '-cf', '-', '.'], { maxBuffer: 2 ** 30 });
const params = {
  [constants.BROTLI_PARAM_QUALITY]: Number(process.env.KIT_QUALITY ?? 9),
  [constants.BROTLI_PARAM_LGWIN]: 24,
};
writeFileSync(join(KIT, 'kit.tar.br'), brotliCompressSync(tar, { params }));
const node = join(STAGE, 'node');
cpSync(realpathSync(process.execPath), node);
try {
  execFileSync('strip', [node]);
} catch {
  console.warn('There is no "strip" here, so Node stays as it is.');
}
// Unpacked with what every system has; it unpacks the rest itself.
writeFileSync(join(KIT, 'node.gz'), gzipSync(readFileSync(node), { level: 9 }));
writeFileSync(
  join(KIT, 'run.sh'),
  `#!/bin/sh
# Unpacks itself beside this file and measures; see coordinator/bench/gpu-main.ts for GPU_PROVIDER, GPU_SECOND, GPU_STEPS, GPU_MODELS.
set -e
cd "$(dirname "$0")"
if [ ! -e unpacked/package.json ]; then
  mkdir -p unpacked
  gzip -dc node.gz > unpacked/node && chmod +x unpacked/node
  unpacked/node -e 'const z=require("zlib"),f=require("fs");process.stdout.on("error",()=>{});f.createReadStream("kit.tar.br").pipe(z.createBrotliDecompress()).pipe(process.stdout)' | tar -C unpacked -xf -
fi
exec unpacked/node unpacked/dist/coordinator/bench/gpu-main.js
`,
  { mode: 0o755 },
);
rmSync(STAGE, { recursive: true, force: true });
const bytes = readdirSync(KIT).reduce((sum, file) => sum + statSync(join(KIT, file)).size, 0);
console.log(`${KIT}: ${(bytes / 2 ** 20).toFixed(1)} MiB`);
if (bytes > LIMIT) {
  console.error(`Expected at most ${LIMIT / 2 ** 20} MiB.`);
  process.exit(1);
}
