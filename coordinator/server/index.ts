/**
 * The resident server, in the order in which a request passes:
 *
 *     server         listen, load, prove, serve, drain, close      app, auth    who may ask; errors; request ids; OpenAPI
 *     routes/        images, models, probes, the page              image-body   what may be asked, checked
 *     studio, turns  who is let in, and whose turn it is           engine       the workers and what is known of them
 *     partial-*      pictures on the way                           png-*        pixels to files, off the main thread
 *     metrics, pace  what is measured, for charts and estimates    errors       every refusal
 */
export { type Ready, type ServeRequest, serve } from './server.js';
