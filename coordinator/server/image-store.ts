/** Pictures that were asked for by address: kept in memory for a while, the oldest going first. */
import { randomUUID } from 'node:crypto';
import { LRUCache } from 'lru-cache';

export const IMAGE_LIFETIME_S = 600;
const MAX_IMAGES = 200;
const MAX_BYTES = 256 * 2 ** 20;

export class ImageStore {
  readonly #images = new LRUCache<string, Uint8Array>({
    max: MAX_IMAGES,
    maxSize: MAX_BYTES,
    sizeCalculation: (png) => Math.max(1, png.byteLength),
    ttl: IMAGE_LIFETIME_S * 1000,
    // What has expired goes by itself, not only when somebody asks for it.
    ttlAutopurge: true,
  });

  /** Keeps a PNG. @returns an id that cannot be guessed: who has it may read the picture */
  add(png: Uint8Array): string {
    const id = randomUUID();
    this.#images.set(id, png);
    return id;
  }

  get(id: string): Uint8Array | undefined {
    return this.#images.get(id);
  }

  clear(): void {
    this.#images.clear();
  }
}
