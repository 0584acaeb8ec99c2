/**
 * The outside of the PNG thread. Compressing a megapixel takes hundreds of ms; on the main thread it would hold up probes,
 * other clients and the workers' heartbeats.
 */
import { Piscina } from 'piscina';
import type { ImageParameters, RgbImage } from '../pipeline/index.js';

export interface PngTask {
  readonly picture: RgbImage;
  readonly parameters: ImageParameters;
}

const TIMEOUT_MS = 60_000;

export class PngThread {
  readonly #pool = new Piscina<PngTask, Uint8Array>({
    filename: new URL('./png-entry.js', import.meta.url).href,
    minThreads: 1,
    maxThreads: 1,
  });

  /** The bytes that `tandem generate` writes for the same picture. */
  encode(task: PngTask): Promise<Uint8Array> {
    return this.#pool.run(task, { signal: AbortSignal.timeout(TIMEOUT_MS) });
  }

  close(): Promise<void> {
    return this.#pool.destroy();
  }
}
