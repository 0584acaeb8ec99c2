/** Which file imports which, and circles in that: for the test that forbids them and for the figures of `npm run measure -- house`. */
import { readdirSync, readFileSync } from 'node:fs';
import { join, posix } from 'node:path';

/** In the order of the imports, the lowest first. */
export const FLOORS = ['common', 'partition', 'shard-worker', 'coordinator'] as const;

const IMPORT = /(?:\bfrom\s*|\bimport\s*\(?\s*)'([^']+)'/g;

export const FILES = FLOORS.flatMap((folder) =>
  readdirSync(folder, { recursive: true, encoding: 'utf8' })
    .filter((file) => file.endsWith('.ts'))
    .map((file) => posix.join(folder, file.replaceAll('\\', '/'))),
);

export const specifiersOf = (file: string): readonly string[] =>
  [...readFileSync(join('.', file), 'utf8').matchAll(IMPORT)].map(([, from = '']) => from);

/** Each file with the files that it imports. */
export const IMPORTS: ReadonlyMap<string, readonly string[]> = new Map(
  FILES.map((file) => [
    file,
    specifiersOf(file)
      .filter((from) => from.startsWith('.'))
      .map((from) => posix.join(posix.dirname(file), from).replace(/\.js$/, '.ts')),
  ]),
);

export const EDGES = [...IMPORTS].flatMap(([from, all]) => all.map((to) => [from, to] as const));

export const floorOf = (file: string): number => FLOORS.findIndex((floor) => file.startsWith(`${floor}/`));

/** `coordinator/cli/text-table.ts` is of `coordinator/cli`; a file at the top of a floor is a room by itself. */
export const roomOf = (file: string): string => file.split('/').slice(0, 2).join('/');

/** A way from a node back to itself, if there is one. */
export const findCircle = (graph: ReadonlyMap<string, readonly string[]>): readonly string[] | undefined => {
  const done = new Set<string>();
  const visit = (node: string, path: readonly string[]): readonly string[] | undefined => {
    if (path.includes(node)) return [...path.slice(path.indexOf(node)), node];
    if (done.has(node)) return undefined;
    for (const next of graph.get(node) ?? []) {
      const circle = visit(next, [...path, node]);
      if (circle) return circle;
    }
    done.add(node);
    return undefined;
  };
  for (const node of graph.keys()) {
    const circle = visit(node, []);
    if (circle) return circle;
  }
  return undefined;
};

export const roomGraph = (): ReadonlyMap<string, readonly string[]> => {
  const rooms = new Map<string, string[]>();
  for (const [from, to] of EDGES) {
    if (roomOf(from) !== roomOf(to)) rooms.set(roomOf(from), [...(rooms.get(roomOf(from)) ?? []), roomOf(to)]);
  }
  return rooms;
};
