/** The body of `POST /v1/images/generations`: OpenAI's fields and those of diffusion models, checked and filled in. */
import { z } from 'zod';
import { nearest } from '../config/nearest.js';
import { PICTURE_FORMATS } from '../pipeline/index.js';
import { type ApiError, type FieldProblem, invalidBody, modelNotFound } from './errors.js';

/** What is served, as far as a request can fit it or not. */
export interface Served {
  readonly model: string;
  /** pixels */
  readonly width: number;
  readonly height: number;
  readonly defaults: { readonly numInferenceSteps: number; readonly guidanceScale: number };
}

const MAX_PROMPT = 4000;
const MAX_IMAGES = 10;
const MAX_STEPS = 200;
const MAX_GUIDANCE = 50;
const MAX_PARTIALS = 50;
const DEFAULT_PARTIALS = 4;

const MAX_QUOTED = 60;
const MAX_GUESSED = 20;

/** A value in a few words, however long or deep it is. */
const quote = (value: unknown): string => {
  if (value === undefined) return 'nothing';
  if (Array.isArray(value)) return `a list of ${value.length}`;
  if (typeof value === 'object' && value !== null) return 'an object';
  if (typeof value === 'string' && value.length > MAX_QUOTED) return `${JSON.stringify(value.slice(0, MAX_QUOTED))}...`;
  return JSON.stringify(value);
};

/** OpenAI's fields that mean nothing to a diffusion model, with the values that ask for what is done anyhow. */
const NO_WISH: Readonly<Record<string, readonly string[]>> = {
  quality: ['auto', 'standard'],
  style: [],
  background: ['auto', 'opaque'],
  moderation: ['auto', 'low'],
};

const ignored = (name: keyof typeof NO_WISH) =>
  z.string().max(64).optional().describe(`OpenAI's ${name}: taken and ignored, with a warning header`);

const IGNORED_FIELDS = {
  quality: ignored('quality'),
  style: ignored('style'),
  background: ignored('background'),
  moderation: ignored('moderation'),
};

/** A request's body for a model that is served at one size. */
export const imageBodySchema = ({ model, width, height, defaults }: Served) => {
  const size = `${width}x${height}`;
  return z.strictObject({
    prompt: z.string().min(1).max(MAX_PROMPT).describe('What the picture should show'),
    negative_prompt: z.string().max(MAX_PROMPT).optional().describe('What it should not show; needs guidance above 1'),
    model: z.string().default(model).describe('The served model, the only one'),
    n: z.number().int().min(1).max(MAX_IMAGES).default(1).describe('Pictures, made one after the other'),
    size: z
      .enum(['auto', size], {
        error: ({ input }) => `expected ${size}, for which the workers were opened (or "auto"); found ${quote(input)}`,
      })
      .default(size)
      .describe('Width x height in pixels'),
    response_format: z
      .enum(['b64_json', 'url'])
      .default('b64_json')
      .describe('The picture in the answer, or its address, which holds for an hour'),
    output_format: z.enum(PICTURE_FORMATS).default('png').describe("The picture's file format"),
    output_compression: z
      .number()
      .int()
      .min(0)
      .max(100)
      .optional()
      .describe('Quality of jpeg and webp, 100 the best. Default: 90. A png loses nothing: ignored, with a warning'),
    ...IGNORED_FIELDS,
    user: z.string().max(256).optional().describe("The client's own name for its user; it goes to the log"),
    num_inference_steps: z
      .number()
      .int()
      .min(1)
      .max(Math.max(MAX_STEPS, defaults.numInferenceSteps))
      .default(defaults.numInferenceSteps)
      .describe('Denoising steps'),
    guidance_scale: z
      .number()
      .min(0)
      .max(MAX_GUIDANCE)
      .default(defaults.guidanceScale)
      .describe('Weight of the prompt; 1 or less runs no negative prompt'),
    seed: z
      .number()
      .int()
      .min(0)
      .max(Number.MAX_SAFE_INTEGER - MAX_IMAGES)
      .optional()
      .describe('Of the first picture; each further one has the next. Default: drawn, and told in the answer'),
    stream: z.boolean().default(false).describe('Server-sent events: progress, partial pictures, the picture'),
    partial_images: z
      .number()
      .int()
      .min(0)
      .max(MAX_PARTIALS)
      .default(DEFAULT_PARTIALS)
      .describe('At most this many partial pictures on the way; without stream ignored, with a warning'),
  });
};

export type ImageBody = z.output<ReturnType<typeof imageBodySchema>>;

type Issue = z.core.$ZodIssue;

const unknownField = (key: string, known: readonly string[]): FieldProblem => {
  if (key.length > MAX_QUOTED)
    return { param: key.slice(0, MAX_QUOTED), code: 'unknown_parameter', message: `${quote(key)}: unknown field.` };
  const meant = nearest(key, known);
  const hint = meant === undefined ? `The fields are ${known.join(', ')}` : `Did you mean "${meant}"?`;
  return { param: key, code: 'unknown_parameter', message: `${key}: unknown field. ${hint}`.replace(/[^?]$/, '$&.') };
};

/** Only the first few are worth a guess at what was meant. */
const unknownFields = (keys: readonly string[], known: readonly string[]): readonly FieldProblem[] => [
  ...keys.slice(0, MAX_GUESSED).map((key) => unknownField(key, known)),
  ...keys.slice(MAX_GUESSED).map((key): FieldProblem => ({ param: key, code: 'unknown_parameter', message: '' })),
];

const valueAt = (root: unknown, path: readonly PropertyKey[]): unknown =>
  path.reduce<unknown>(
    (value, key) => (typeof value === 'object' && value !== null ? Reflect.get(value, key) : undefined),
    root,
  );

/** Zod's own words start with a title such as "Too big: expected number to be <=10". */
const withoutTitle = (message: string): string => message.replace(/^[A-Z][a-z ]+: /, '').replace(/, received .*$/, '');

const fieldProblem = (issue: Issue, body: unknown): FieldProblem => {
  const param = issue.path.join('.');
  const found = valueAt(body, issue.path);
  if (found === undefined && param !== '')
    return { param, code: 'missing_required_parameter', message: `${param}: it is required.` };
  const message = withoutTitle(issue.message);
  const tail = message.includes('; found ') ? '' : `; found ${quote(found)}`;
  return { param, code: 'invalid_value', message: `${param || 'the body'}: ${message}${tail}.` };
};

/** Every problem that the schema finds, in words that name the field, what was expected and what was found. */
const schemaProblems = (issues: readonly Issue[], body: unknown, known: readonly string[]): readonly FieldProblem[] =>
  issues.flatMap((issue) =>
    issue.code === 'unrecognized_keys' ? unknownFields(issue.keys, known) : [fieldProblem(issue, body)],
  );

type Schema = ReturnType<typeof imageBodySchema>;

/** What official clients send for "not given". */
const withoutNulls = (raw: unknown): unknown =>
  typeof raw === 'object' && raw !== null && !Array.isArray(raw)
    ? Object.fromEntries(Object.entries(raw).filter(([, value]) => value !== null))
    : raw;

/**
 * Checks a body.
 * @param raw what was sent; a field that is null counts as left out
 * @returns the body with every default filled in, or the error (400 or 404) that names all its problems
 */
export const checkImageBody = (
  schema: Schema,
  served: Served,
  raw: unknown,
): { readonly value: ImageBody } | { readonly error: ApiError } => {
  const given = withoutNulls(raw);
  const parsed = schema.safeParse(given);
  if (!parsed.success)
    return { error: invalidBody(schemaProblems(parsed.error.issues, given, Object.keys(schema.shape))) };
  const { model } = parsed.data;
  return model === served.model ? { value: parsed.data } : { error: modelNotFound(model, served.model) };
};

/**
 * What of a request changes nothing, in words for its sender.
 * @param raw the fields as they were sent
 */
export const ignoredFields = (body: ImageBody, raw: Readonly<Record<string, unknown>>): readonly string[] => {
  const wishes = Object.entries(NO_WISH).flatMap(([name, same]) => {
    const value = Reflect.get(body, name);
    return typeof value !== 'string' || same.includes(value)
      ? []
      : [`${name} is ignored: this model has no such choice`];
  });
  return [
    ...wishes,
    ...(body.output_compression !== undefined && body.output_format === 'png'
      ? ['output_compression is ignored: a png loses nothing']
      : []),
    ...(raw.partial_images != null && !body.stream ? ['partial_images is ignored: it needs "stream": true'] : []),
  ];
};
