import { readFileSync } from 'node:fs';
import { dirname, relative, resolve } from 'node:path';
import { describe, expect, it } from 'vitest';

const DIST = resolve('dist');

/** What a module loads before it runs: the modules and packages that it imports, and that those import. */
const loaded = (entry: string): ReadonlySet<string> => {
  const seen = new Set<string>();
  const visit = (path: string): void => {
    if (seen.has(relative(DIST, path))) return;
    seen.add(relative(DIST, path));
    for (const [, from = ''] of readFileSync(path, 'utf8').matchAll(/^(?:import|export)\b[^;]*?'([^']+)';$/gm)) {
      if (from.startsWith('.')) visit(resolve(dirname(path), from));
      else seen.add(from);
    }
  };
  visit(resolve(DIST, entry));
  return seen;
};

describe('a start', () => {
  it.each(['coordinator/cli/commands/launch.js', 'coordinator/server/index.js'])(
    'that finds its workers and shards as they were loads nothing of the partitioner: %s',
    (entry) => {
      const modules = loaded(entry);
      expect([...modules]).toContain('coordinator/cluster/launch-cluster.js');
      expect(
        [...modules].filter((name) => name === 'partition/index.js' || name.startsWith('partition/onnx/')),
      ).toEqual([]);
      expect([...modules].filter((name) => name.startsWith('@bufbuild/'))).toEqual([]);
    },
  );

  it('loads no command before it knows which one is asked for', () => {
    expect([...loaded('coordinator/main.js')].filter((name) => name.includes('/commands/'))).toEqual([]);
  });

  it('of a server loads text encoder and VAE before the HTTP framework, which nothing there waits for', () => {
    expect([...loaded('coordinator/server/index.js')]).not.toContain('fastify');
  });
});
