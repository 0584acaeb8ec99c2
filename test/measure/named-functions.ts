/** The named functions of a TypeScript file, with their lengths. */
import { readFileSync } from 'node:fs';
import { parseSync } from 'vite';

export interface NamedFunction {
  readonly file: string;
  readonly name: string;
  readonly lines: number;
}

interface Syntax {
  readonly type: string;
  readonly start: number;
  readonly end: number;
}

const isSyntax = (value: unknown): value is Syntax =>
  typeof value === 'object' && value !== null && 'type' in value && typeof value.type === 'string';

const childrenOf = (node: Syntax): readonly Syntax[] => Object.values(node).flat().filter(isSyntax);

const part = (node: Syntax, key: string): Syntax | undefined => {
  const value: unknown = Reflect.get(node, key);
  return isSyntax(value) ? value : undefined;
};

const FUNCTIONS: ReadonlySet<string> = new Set([
  'FunctionDeclaration',
  'FunctionExpression',
  'ArrowFunctionExpression',
]);

/** The name under which a node has a function; undefined where it has none. */
const nameIn = (node: Syntax): Syntax | undefined => {
  if (node.type === 'FunctionDeclaration') return part(node, 'id');
  const [name, value] =
    node.type === 'VariableDeclarator'
      ? [part(node, 'id'), part(node, 'init')]
      : [part(node, 'key'), part(node, 'value')];
  return value && FUNCTIONS.has(value.type) ? name : undefined;
};

export const namedFunctions = (file: string): readonly NamedFunction[] => {
  const text = readFileSync(file, 'utf8');
  const found: NamedFunction[] = [];
  const visit = (node: Syntax): void => {
    const name = nameIn(node);
    if (name) {
      const lines = text.slice(node.start, node.end).split('\n').length;
      found.push({ file, name: text.slice(name.start, name.end), lines });
    }
    for (const child of childrenOf(node)) visit(child);
  };
  const { program } = parseSync(file, text);
  if (isSyntax(program)) visit(program);
  return found;
};
