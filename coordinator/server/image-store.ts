/**
 * Pictures that were asked for by address: files, so that every replica that shares the directory has them, also after a restart.
 * An address carries the time until which it holds, signed (HMAC-SHA256, RFC 2104) with a key that lies beside the pictures: who
 * has the address may read the picture, and nobody can make one up.
 */
import { createHmac, randomBytes, randomUUID, timingSafeEqual } from 'node:crypto';
import { link, mkdir, readdir, readFile, rename, rm, stat, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import type { PictureFormat } from '../pipeline/index.js';
import { imagesUnwritable } from './errors.js';

export const IMAGE_LIFETIME_S = 3600;
const MAX_BYTES = 2 ** 30;
const SWEEP_EVERY_MS = 60_000;
const KEY_BYTES = 32;
const NAME = /^[0-9a-f-]{36}\.(png|jpeg|webp)$/;

/** The part of an address that says that it is one. */
export interface Signed {
  readonly expires: number;
  readonly signature: string;
}

interface StoredFile {
  readonly path: string;
  readonly bytes: number;
  readonly mtimeMs: number;
}

const unixTime = (): number => Math.floor(Date.now() / 1000);

const isCode = (error: unknown, code: string): boolean => error instanceof Error && Reflect.get(error, 'code') === code;

export class ImageStore {
  readonly #directory: string;
  #key: Promise<Buffer> | undefined;
  #sweptAt = 0;

  /** @param directory absolute; made, private, for the first picture */
  constructor(directory: string) {
    this.#directory = directory;
  }

  /**
   * Keeps a picture.
   * @returns its address, without the server's own: `/images/ID.png?expires=...&signature=...`
   * @throws ApiError 503 where it cannot be written
   */
  async add(bytes: Uint8Array, format: PictureFormat): Promise<string> {
    const file = `${randomUUID()}.${format}`;
    try {
      const expires = unixTime() + IMAGE_LIFETIME_S;
      const signature = await this.#sign(file, expires);
      await this.#write(file, bytes);
      this.#sweepLater();
      return `/images/${file}?expires=${expires}&signature=${signature}`;
    } catch (cause) {
      throw imagesUnwritable(this.#directory, cause);
    }
  }

  /** @returns the picture's bytes; undefined where it is gone or was never given this address */
  async get(file: string, { expires, signature }: Signed): Promise<Buffer | undefined> {
    if (!NAME.test(file) || expires < unixTime()) return undefined;
    const [found, expected] = [Buffer.from(signature), Buffer.from(await this.#sign(file, expires))];
    if (found.length !== expected.length || !timingSafeEqual(found, expected)) return undefined;
    return readFile(join(this.#directory, file)).catch(() => undefined);
  }

  /** Removes what has expired, and the oldest beyond the bound. */
  async sweep(): Promise<void> {
    const files = (await this.#files()).toSorted((a, b) => b.mtimeMs - a.mtimeMs);
    const oldest = Date.now() - IMAGE_LIFETIME_S * 1000;
    let bytes = 0;
    for (const file of files) {
      bytes += file.bytes;
      if (file.mtimeMs < oldest || bytes > MAX_BYTES) await rm(file.path, { force: true });
    }
  }

  #sweepLater(): void {
    if (Date.now() - this.#sweptAt < SWEEP_EVERY_MS) return;
    this.#sweptAt = Date.now();
    this.sweep().catch(() => undefined);
  }

  async #files(): Promise<readonly StoredFile[]> {
    const names = (await readdir(this.#directory)).filter((name) => NAME.test(name.replace(/\.new$/, '')));
    const files = names.map(async (name): Promise<StoredFile | undefined> => {
      const path = join(this.#directory, name);
      // Another replica may have removed it meanwhile.
      const stats = await stat(path).catch(() => undefined);
      return stats && { path, bytes: stats.size, mtimeMs: stats.mtimeMs };
    });
    return (await Promise.all(files)).filter((file) => file !== undefined);
  }

  /** Whole or not at all. */
  async #write(file: string, bytes: Uint8Array): Promise<void> {
    const path = join(this.#directory, file);
    await writeFile(`${path}.new`, bytes, { mode: 0o600 });
    await rename(`${path}.new`, path);
  }

  async #sign(file: string, expires: number): Promise<string> {
    this.#key ??= this.#readKey().catch((error: unknown) => {
      this.#key = undefined;
      throw error;
    });
    return createHmac('sha256', await this.#key)
      .update(`${file}:${expires}`)
      .digest('hex');
  }

  /** The one key of all replicas: whoever comes first makes it. */
  async #readKey(): Promise<Buffer> {
    await mkdir(this.#directory, { recursive: true, mode: 0o700 });
    const path = join(this.#directory, 'key');
    const made = `${path}.${randomUUID()}`;
    await writeFile(made, randomBytes(KEY_BYTES), { mode: 0o600 });
    try {
      await link(made, path);
    } catch (error) {
      if (!isCode(error, 'EEXIST')) throw error;
    } finally {
      await rm(made, { force: true });
    }
    return readFile(path);
  }
}
