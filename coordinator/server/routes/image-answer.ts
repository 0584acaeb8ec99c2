/** Pictures and what happens on their way, in the shapes that clients of OpenAI's image API read. */
import { z } from 'zod';
import { PICTURE_FORMATS } from '../../pipeline/index.js';
import { errorDetail } from '../errors.js';
import type { ImageBody } from '../image-body.js';
import type { ImageEvent } from '../studio.js';

const format = z.enum(PICTURE_FORMATS);
const time = z.number().int().describe('Unix time in seconds');
const tokens = z.number().int().min(0);

/** OpenAI bills by tokens; here nothing is billed, and its clients' types want the field. */
const usage = z
  .object({
    input_tokens: tokens,
    output_tokens: tokens,
    total_tokens: tokens,
    input_tokens_details: z.object({ image_tokens: tokens, text_tokens: tokens }),
  })
  .describe("All 0: tokens are not counted; OpenAI's clients expect the field");

const picture = {
  b64_json: z.string().optional(),
  url: z.string().optional(),
  seed: z.number().int(),
  warnings: z.array(z.string()).optional().describe('What was done differently from what was asked'),
};

export const imageAnswer = z.object({
  created: time,
  data: z.array(z.object(picture)),
  background: z.literal('opaque'),
  output_format: format,
  size: z.string(),
  usage,
});

const index = z.number().int().min(0).describe("The picture's, of n");
const about = {
  created_at: time,
  background: z.literal('opaque'),
  output_format: format,
  quality: z.literal('auto'),
  size: z.string(),
};

/** The events of a stream, by type. */
export const streamEvent = z.discriminatedUnion('type', [
  z.object({
    type: z.literal('image_generation.queued'),
    index,
    ahead: z.number().int().describe('Pictures before this one'),
    wait_s: z.number(),
  }),
  z.object({
    type: z.literal('image_generation.progress'),
    index,
    step: z.number().int(),
    steps: z.number().int(),
    step_ms: z.number(),
    remaining_s: z.number(),
  }),
  z.object({
    type: z.literal('image_generation.partial_image'),
    index,
    partial_image_index: z.number().int(),
    step: z.number().int(),
    b64_json: z.string(),
    ...about,
  }),
  z.object({ type: z.literal('image_generation.completed'), index, ...picture, ...about, usage }),
  z.object({ type: z.literal('error'), error: errorDetail }),
]);

export type ImageAnswer = z.infer<typeof imageAnswer>;
export type SentEvent = z.infer<typeof streamEvent>;
export type MadeImage = Extract<ImageEvent, { kind: 'image' }>;

/** What an answer needs beside the pictures. */
export interface AnswerContext {
  readonly body: ImageBody;
  /** `512x512` */
  readonly size: string;
  /** The server's own address, as the client knows it: `http://127.0.0.1:8080`. */
  readonly origin: string;
  /** What of the request was ignored. */
  readonly ignored: readonly string[];
}

const NO_USAGE: ImageAnswer['usage'] = {
  input_tokens: 0,
  output_tokens: 0,
  total_tokens: 0,
  input_tokens_details: { image_tokens: 0, text_tokens: 0 },
};

const unixTime = (): number => Math.floor(Date.now() / 1000);
const base64 = (file: Uint8Array): string => Buffer.from(file).toString('base64');

const toDatum = (made: MadeImage, { origin, ignored }: AnswerContext): ImageAnswer['data'][number] => {
  const place = made.path === undefined ? { b64_json: base64(made.file) } : { url: `${origin}${made.path}` };
  const warnings = [...ignored, ...made.warnings];
  return { ...place, seed: made.seed, ...(warnings.length > 0 ? { warnings } : {}) };
};

export const toAnswer = (made: readonly MadeImage[], context: AnswerContext): ImageAnswer => ({
  created: unixTime(),
  data: made.map((image) => toDatum(image, context)),
  background: 'opaque',
  output_format: context.body.output_format,
  size: context.size,
  usage: NO_USAGE,
});

const describe = ({ body, size }: AnswerContext) =>
  ({
    created_at: unixTime(),
    background: 'opaque',
    output_format: body.output_format,
    quality: 'auto',
    size,
  }) as const;

/** An event as it is streamed; its `type` is the event's name. */
export const toStreamEvent = (event: ImageEvent, context: AnswerContext): SentEvent => {
  switch (event.kind) {
    case 'queued': {
      const { kind: _, ...rest } = event;
      return { type: 'image_generation.queued', ...rest };
    }
    case 'progress': {
      const { kind: _, ...rest } = event;
      return { type: 'image_generation.progress', ...rest };
    }
    case 'partial': {
      const { index, step, partial, file } = event;
      const shown = { index, partial_image_index: partial, step, b64_json: base64(file) };
      return { type: 'image_generation.partial_image', ...shown, ...describe(context) };
    }
    case 'image': {
      const datum = toDatum(event, context);
      return {
        type: 'image_generation.completed',
        index: event.index,
        ...datum,
        ...describe(context),
        usage: NO_USAGE,
      };
    }
    default:
      return event satisfies never;
  }
};
