/** Progress as a stream can show it: a bar on a terminal, lines elsewhere. Either is loaded only where it is used. */
import type { Progress } from './progress.js';

export const progressOn = async (stream: NodeJS.WriteStream): Promise<Progress> =>
  stream.isTTY
    ? (await import('./progress-bar.js')).createBarProgress(stream)
    : (await import('./progress-lines.js')).createLineProgress(stream);
