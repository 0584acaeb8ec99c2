/** How the server is: for orchestrators, for charts and for people. */
import { z } from 'zod';
import type { EngineState } from '../engine.js';
import type { ServerParts, TypedApp } from '../route-context.js';
import type { LoadedSize } from '../sizes.js';
import type { SwapReport } from '../swap-report.js';

const rank = z.object({
  rank: z.number().int(),
  state: z.string(),
  pid: z.number().int(),
  device: z.string(),
  weight_bytes: z.number(),
  memory_bytes: z.number(),
  peak_memory_bytes: z.number(),
  last_step_ms: z.number().nullable(),
  last_exchange_ms: z.number().nullable(),
  restarts: z.number().int(),
});

const health = z.object({
  state: z.string(),
  ready: z.boolean(),
  /** Why it is not ready. */
  reason: z.string().nullable(),
  model: z.string(),
  /** Digest of the denoiser's graph and weights; null while it is loading. */
  version: z.string().nullable(),
  /** What became of the last attempt to serve another version, and why it failed. */
  swap: z.object({ state: z.enum(['none', 'loading', 'completed', 'failed']), reason: z.string().nullable() }),
  size: z.string(),
  /** The default one and those that were asked for. */
  sizes: z.array(z.object({ size: z.string(), state: z.string(), weight_bytes: z.number(), memory_bytes: z.number() })),
  uptime_s: z.number(),
  requests_running: z.number().int(),
  requests_waiting: z.number().int(),
  ranks: z.array(rank),
});

const readiness = z.object({ ready: z.boolean(), reason: z.string().nullable() });

const whyNot = (state: EngineState): string | null => {
  switch (state.kind) {
    case 'ready':
      return null;
    case 'loading':
      return 'the workers are loading';
    case 'warming':
      return 'not every rank has run a step yet';
    case 'recovering':
    case 'disagreeing':
    case 'failed':
      return state.error.message;
    case 'closed':
      return 'the server is closed';
    default:
      return state satisfies never;
  }
};

const swapHealth = ({ state }: SwapReport): z.infer<typeof health>['swap'] => ({
  state: state.kind,
  reason: state.kind === 'failed' ? [state.error.message, ...state.error.problems].join(' ') : null,
});

const sizeHealth = ({ size, engine }: LoadedSize): z.infer<typeof health>['sizes'][number] => ({
  size,
  state: engine.state.kind,
  weight_bytes: engine.ranks.reduce((total, { weight_bytes }) => total + weight_bytes, 0),
  memory_bytes: engine.ranks.reduce((total, { memory_bytes }) => total + memory_bytes, 0),
});

const addMetrics = (app: TypedApp, { metrics }: ServerParts): void => {
  app.get(
    '/metrics',
    {
      config: { quiet: true },
      schema: { summary: 'Metrics in the text format of Prometheus', operationId: 'getMetrics' },
    },
    async (_, reply) => reply.type(metrics.registry.contentType).send(await metrics.registry.metrics()),
  );
};

export const addProbes = (app: TypedApp, parts: ServerParts): void => {
  const { engine, sizes, studio, served, size, swaps, startedAt } = parts;
  const reason = (): string | null => (studio.draining ? 'the server is being stopped' : whyNot(engine.state));
  const probe = { open: true, quiet: true };
  app.get(
    '/live',
    {
      config: probe,
      schema: {
        summary: 'Answers while the process does',
        operationId: 'getLive',
        response: { 200: z.object({ live: z.literal(true) }) },
      },
    },
    async () => ({ live: true as const }),
  );
  app.get(
    '/ready',
    {
      config: probe,
      schema: {
        operationId: 'getReady',
        summary:
          'Whether pictures can be made: every rank has run a step since it was loaded, and nothing is being stopped',
        response: { 200: readiness, 503: readiness },
      },
    },
    async (_, reply) => {
      const why = reason();
      return reply.code(why === null ? 200 : 503).send({ ready: why === null, reason: why });
    },
  );
  app.get(
    '/health',
    {
      config: { quiet: true },
      schema: { summary: 'The state of every rank', operationId: 'getHealth', response: { 200: health } },
    },
    async () => ({
      state: studio.draining ? 'draining' : engine.state.kind,
      ready: reason() === null,
      reason: reason(),
      model: served.model,
      version: engine.version ?? null,
      swap: swapHealth(swaps()),
      size,
      sizes: sizes.loaded.map(sizeHealth),
      uptime_s: Math.round(Date.now() / 1000 - startedAt),
      requests_running: studio.running,
      requests_waiting: studio.waiting,
      ranks: [...engine.ranks],
    }),
  );
  addMetrics(app, parts);
};
