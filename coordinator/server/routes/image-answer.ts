/** Pictures and what happens on their way, in the shapes that clients of OpenAI's image API read. */
import { z } from 'zod';
import type { ImageBody } from '../image-body.js';
import type { ImageEvent } from '../studio.js';

export const imageAnswer = z.object({
  created: z.number().int().describe('Unix time in seconds'),
  data: z.array(
    z.object({
      b64_json: z.string().optional(),
      url: z.string().optional(),
      seed: z.number().int(),
      warnings: z.array(z.string()).optional().describe('What was done differently from what was asked'),
    }),
  ),
  size: z.string(),
  output_format: z.literal('png'),
});

export type ImageAnswer = z.infer<typeof imageAnswer>;
export type MadeImage = Extract<ImageEvent, { kind: 'image' }>;

/** How a picture's address is made, where one is asked for. */
export type Publish = (png: Uint8Array) => string;

const unixTime = (): number => Math.floor(Date.now() / 1000);
const base64 = (png: Uint8Array): string => Buffer.from(png).toString('base64');

const toDatum = (made: MadeImage, body: ImageBody, publish: Publish): ImageAnswer['data'][number] => {
  const format = body.response_format ?? (body.stream ? 'b64_json' : 'url');
  const picture = format === 'b64_json' ? { b64_json: base64(made.png) } : { url: publish(made.png) };
  return { ...picture, seed: made.seed, ...(made.warnings.length > 0 ? { warnings: [...made.warnings] } : {}) };
};

export const toAnswer = (made: readonly MadeImage[], body: ImageBody, size: string, publish: Publish): ImageAnswer => ({
  created: unixTime(),
  data: made.map((image) => toDatum(image, body, publish)),
  size,
  output_format: 'png',
});

/** An event as it is streamed; its `type` is the event's name. */
export const toStreamEvent = (
  event: ImageEvent,
  body: ImageBody,
  size: string,
  publish: Publish,
): Readonly<Record<string, unknown>> => {
  switch (event.kind) {
    case 'queued':
    case 'progress': {
      const { kind, ...rest } = event;
      return { type: `image_generation.${kind}`, ...rest };
    }
    case 'partial': {
      const { index, step, png } = event;
      return { type: 'image_generation.partial_image', index, step, b64_json: base64(png), output_format: 'png' };
    }
    case 'image': {
      const datum = toDatum(event, body, publish);
      const created_at = unixTime();
      return {
        type: 'image_generation.completed',
        index: event.index,
        created_at,
        ...datum,
        size,
        output_format: 'png',
      };
    }
    default:
      return event satisfies never;
  }
};
