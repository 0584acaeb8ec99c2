/** Where the compute thread listens. */
import { checkEndpoint, directPath, socketPath } from '../endpoints.js';
import { whyNoDirectSockets } from './library.js';

/**
 * The compute thread's own endpoint, for a unix socket, which a directory's mode keeps others from; ports have their guard in the main
 * thread. Undefined where it can have none: the main thread's sockets then carry its tensors, and peers need not know.
 */
export const ownDirectEndpoint = (exchange: string): string | undefined => {
  const path = socketPath(exchange);
  if (path === undefined || whyNoDirectSockets() !== undefined) return undefined;
  const endpoint = `ipc://${directPath(path)}`;
  try {
    checkEndpoint(endpoint);
    return endpoint;
  } catch {
    // The longer name does not fit into a socket's address.
    return undefined;
  }
};
