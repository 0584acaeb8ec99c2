/**
 * The outside of the thread that writes picture files. Compressing a megapixel takes hundreds of ms; on the main thread it would
 * hold up probes, other clients and the workers' heartbeats.
 */
import { Piscina } from 'piscina';
import type { ImageParameters, PictureFormat, RgbImage } from '../pipeline/index.js';

export interface PictureTask {
  readonly picture: RgbImage;
  readonly parameters: ImageParameters;
  readonly format: PictureFormat;
  /** 1 to 100, of JPEG and WebP. */
  readonly quality: number;
}

const TIMEOUT_MS = 60_000;

export class PictureThread {
  readonly #pool = new Piscina<PictureTask, Uint8Array>({
    filename: new URL('./picture-entry.js', import.meta.url).href,
    minThreads: 1,
    maxThreads: 1,
  });

  /** The bytes that `tandem generate` writes for the same picture. */
  encode(task: PictureTask): Promise<Uint8Array> {
    return this.#pool.run(task, { signal: AbortSignal.timeout(TIMEOUT_MS) });
  }

  close(): Promise<void> {
    return this.#pool.destroy();
  }
}
