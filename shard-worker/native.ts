/** The one place that imports `koffi`: functions of C libraries. */
import { createRequire } from 'node:module';
import type * as Koffi from 'koffi';

export type Library = ReturnType<typeof Koffi.load>;

export const koffi = (): typeof Koffi => createRequire(import.meta.url)('koffi') as typeof Koffi;

/** @param path of a shared library; null for what the process itself runs on, the C library with it */
export const openLibrary = (path: string | null): Library => koffi().load(path);
