/**
 * The resident server, in the order in which a request passes:
 *
 *     server         listen, load, prove, serve, drain, close      app, auth    who may ask; errors; request ids; OpenAPI
 *     front          the socket before all versions                routes/      images, models, probes, the page
 *     editions       the versions that are loaded                  image-body   what may be asked, checked
 *     swap           one version in place of another               side-by-side whether both fit meanwhile
 *     studio, turns  who is let in, and whose turn it is           engine       the workers and what is known of them
 *     partial-*      pictures on the way                           png-*        pixels to files, off the main thread
 *     metrics, pace  what is measured, for charts and estimates    errors       every refusal
 *     log            lines that nobody waits for
 */
export { createServerLog, type ServerLog } from './log.js';
export { type Ready, type ServeRequest, serve } from './server.js';
export type { SwapOutcome } from './swap-report.js';
