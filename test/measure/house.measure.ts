/**
 * The house in figures: `npm run measure -- house` prints how long files and named functions are, what stands at the top of
 * `partition/`, and the circles of imports, which `test/architecture.test.ts` forbids. A named function is a function, a method, or
 * a constant that is an arrow function, with its head; parameters and what it calls inside count as its own lines.
 */
import { readdirSync, readFileSync } from 'node:fs';
import { it } from 'vitest';
import { FILES, findCircle, IMPORTS, roomGraph } from '../support/imports.js';
import { type NamedFunction, namedFunctions } from './named-functions.js';

/** Those that people wrote. */
const WRITTEN = FILES.filter((file) => !file.includes('/gen/'));

const linesOf = (file: string): number => readFileSync(file, 'utf8').split('\n').length - 1;

const median = (numbers: readonly number[]): number =>
  [...numbers].sort((a, b) => a - b)[Math.floor(numbers.length / 2)] ?? 0;

const describe = ({ file, name, lines }: NamedFunction): string => `${name} (${file}), ${lines} lines`;

it('prints the figures', () => {
  const sizes = WRITTEN.map((file) => ({ file, lines: linesOf(file) })).sort((a, b) => b.lines - a.lines);
  const functions = WRITTEN.flatMap(namedFunctions).sort((a, b) => b.lines - a.lines);
  const top = readdirSync('partition', { withFileTypes: true }).filter((entry) => entry.isFile());
  const circles = [findCircle(IMPORTS), findCircle(roomGraph())].filter((circle) => circle !== undefined);
  console.log(
    [
      `circles of imports: ${circles.length}`,
      `files at the top of partition/: ${top.length}`,
      `files: ${WRITTEN.length}, median ${median(sizes.map(({ lines }) => lines))} lines, longest ${sizes[0]?.file} with ${sizes[0]?.lines}`,
      `named functions: ${functions.length}, median ${median(functions.map(({ lines }) => lines))} lines; over 60: ${functions.filter(({ lines }) => lines > 60).length}`,
      ...functions.slice(0, 5).map((one) => `  ${describe(one)}`),
    ].join('\n'),
  );
});
