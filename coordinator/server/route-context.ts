/** What the routes of one version work with; requests, pictures, metrics and swaps are the whole server's. */

import type { IncomingMessage, ServerResponse } from 'node:http';
import type { ZodTypeProvider } from '@fastify/type-provider-zod';
import type { FastifyBaseLogger, FastifyInstance, RawServerDefault } from 'fastify';
import type { Engine } from './engine.js';
import type { Served } from './image-body.js';
import type { ImageStore } from './image-store.js';
import type { Metrics } from './metrics.js';
import type { Requests } from './requests.js';
import type { Sizes } from './sizes.js';
import type { Studio } from './studio.js';
import type { SwapReport } from './swap-report.js';

export interface ServerParts {
  readonly served: Served;
  /** Of the pictures: `64x64`. */
  readonly size: string;
  readonly engine: Engine;
  readonly sizes: Sizes;
  readonly studio: Studio;
  readonly requests: Requests;
  readonly images: ImageStore;
  readonly metrics: Metrics;
  readonly swaps: () => SwapReport;
  /** Unix time of the start, in seconds. */
  readonly startedAt: number;
}

export type TypedApp = FastifyInstance<
  RawServerDefault,
  IncomingMessage,
  ServerResponse,
  FastifyBaseLogger,
  ZodTypeProvider
>;
