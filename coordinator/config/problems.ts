/**
 * What is wrong with a config, said where it is: `file:line:column key.path: expected ...; found ...`.
 * Zod finds what breaks the schema; this file finds the place in the YAML text and the words.
 */
import { type Document, isMap, isNode, isPair, isScalar, type LineCounter } from 'yaml';
import { z } from 'zod';
import { nearest } from './nearest.js';
import { clusterSchema } from './schema.js';

/** One problem, at a path of the document; `[]` is the document as a whole. */
export interface ConfigProblem {
  readonly path: readonly PropertyKey[];
  readonly message: string;
  /** Point at the key instead of its value. */
  readonly atKey?: string;
}

/** A parsed YAML text with what is needed to say where things are. */
export interface Source {
  /** As the user named it. */
  readonly file: string;
  readonly document: Document.Parsed;
  readonly lines: LineCounter;
}

/** `devices[1].provider` */
export const keyPath = (path: readonly PropertyKey[]): string =>
  path.reduce<string>(
    (text, key) => (typeof key === 'number' ? `${text}[${key}]` : text === '' ? String(key) : `${text}.${String(key)}`),
    '',
  );

const quote = (value: unknown): string => {
  if (value === undefined || value === null) return 'nothing';
  const text = JSON.stringify(value) ?? String(value);
  return text.length > 60 ? `${text.slice(0, 57)}...` : text;
};

const valueAt = (root: unknown, path: readonly PropertyKey[]): unknown =>
  path.reduce<unknown>(
    (value, key) => (typeof value === 'object' && value !== null ? Reflect.get(value, key) : undefined),
    root,
  );

type Issue = z.core.$ZodIssue;

const TYPE_NAMES: Readonly<Record<string, string>> = {
  int: 'a whole number',
  number: 'a number',
  string: 'text',
  array: 'a list',
  object: 'a mapping of keys to values',
};

const bound = (issue: z.core.$ZodIssueTooSmall): string => {
  if (issue.origin === 'array') return `at least ${issue.minimum} entry`;
  if (issue.origin === 'string') return 'text that is not empty';
  return issue.inclusive ? `${issue.minimum} or more` : `more than ${issue.minimum}`;
};

const upperBound = (issue: z.core.$ZodIssueTooBig): string => {
  if (issue.origin === 'array') return `at most ${issue.maximum} entries`;
  return issue.origin === 'string' ? `at most ${issue.maximum} characters` : `at most ${issue.maximum}`;
};

const expectation = (issue: Issue): string => {
  switch (issue.code) {
    case 'invalid_type':
      return TYPE_NAMES[issue.expected] ?? issue.expected;
    case 'invalid_value':
      return `one of ${issue.values.map(String).join(', ')}`;
    case 'too_small':
      return bound(issue);
    case 'too_big':
      return upperBound(issue);
    case 'not_multiple_of':
      return `a multiple of ${issue.divisor}`;
    case 'invalid_format':
    case 'invalid_union':
      if (issue.path[0] === 'placement') return 'auto, coordinator, shard or { rank: N }';
      return 'a size such as "8GiB", "512MB" or a whole number of bytes';
    case 'unrecognized_keys':
    case 'invalid_key':
    case 'invalid_element':
    case 'custom':
      return issue.message;
    default:
      return issue satisfies never;
  }
};

const REMOTE_KEYS = new Set([
  'host',
  'hosts',
  'hostname',
  'address',
  'addresses',
  'bind',
  'endpoint',
  'endpoints',
  'url',
  'ip',
]);
const LOOPBACK_ONLY = 'workers are reached by the addresses of their hosts, which stand under "hosts" and "join"';

/** The keys that the schema knows at a path. */
const knownKeys = (path: readonly PropertyKey[]): readonly string[] => {
  let schema: unknown = clusterSchema;
  for (const key of path) {
    if (schema instanceof z.ZodPrefault || schema instanceof z.ZodOptional) schema = schema.unwrap();
    if (schema instanceof z.ZodArray) schema = schema.element;
    else if (schema instanceof z.ZodObject) schema = schema.shape[String(key)];
  }
  if (schema instanceof z.ZodPrefault || schema instanceof z.ZodOptional) schema = schema.unwrap();
  return schema instanceof z.ZodObject ? Object.keys(schema.shape) : [];
};

const unknownKey = (path: readonly PropertyKey[], key: string): ConfigProblem => {
  const known = knownKeys(path);
  const meant = nearest(key, known);
  const hint = REMOTE_KEYS.has(key)
    ? LOOPBACK_ONLY
    : meant === undefined
      ? `known keys: ${known.join(', ')}`
      : `did you mean "${meant}"?`;
  return { path: [...path, key], message: `unknown key; ${hint}`, atKey: key };
};

const isEndpoint = (value: unknown): boolean => typeof value === 'string' && /[:/]/.test(value);

/** The problems of one zod issue: several where it names several keys. */
export const problemsOf = (issue: Issue, root: unknown): readonly ConfigProblem[] => {
  if (issue.code === 'unrecognized_keys') return issue.keys.map((key) => unknownKey(issue.path, key));
  const found = valueAt(root, issue.path);
  if (found === undefined && issue.path.length > 0) {
    return [{ path: issue.path, message: `missing: expected ${expectation(issue)}` }];
  }
  const hint = keyPath(issue.path) === 'wire.transport' && isEndpoint(found) ? `; ${LOOPBACK_ONLY}` : '';
  return [{ path: issue.path, message: `expected ${expectation(issue)}; found ${quote(found)}${hint}` }];
};

const keyOffset = (node: unknown, key: string): number | undefined => {
  if (!isMap(node)) return undefined;
  const pair = node.items.find((item) => isPair(item) && isScalar(item.key) && String(item.key.value) === key);
  return pair && isNode(pair.key) ? pair.key.range?.[0] : undefined;
};

/** Offset in the text of a path, or of its nearest parent where the path itself is missing. */
const offsetOf = (source: Source, problem: ConfigProblem): number => {
  const { document } = source;
  if (problem.atKey !== undefined) {
    const parent = problem.path.length === 1 ? document.contents : document.getIn(problem.path.slice(0, -1), true);
    const offset = keyOffset(parent, problem.atKey);
    if (offset !== undefined) return offset;
  }
  for (let length = problem.path.length; length > 0; length--) {
    const node = document.getIn(problem.path.slice(0, length), true);
    if (isNode(node) && node.range) return node.range[0];
  }
  return document.contents?.range?.[0] ?? 0;
};

/** One line per problem, in the order of the text. */
export const describeProblems = (source: Source, problems: readonly ConfigProblem[]): readonly string[] =>
  problems
    .map((problem) => ({ problem, offset: offsetOf(source, problem) }))
    .sort((a, b) => a.offset - b.offset)
    .map(({ problem, offset }) => {
      const { line, col } = source.lines.linePos(offset);
      const key = keyPath(problem.path);
      return `${source.file}:${Math.max(1, line)}:${Math.max(1, col)}${key === '' ? '' : ` ${key}`}: ${problem.message}`;
    });
