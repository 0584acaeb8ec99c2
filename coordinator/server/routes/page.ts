/** The built-in page: one file with everything inside, allowed to run exactly what it brings. */
import { createHash } from 'node:crypto';
import { readFile } from 'node:fs/promises';
import { fileURLToPath } from 'node:url';
import type { TypedApp } from '../route-context.js';

/** From dist/coordinator/server/routes/ as from an installed package: the page lies beside the sources, which ship. */
const PAGE = fileURLToPath(new URL('../../../../coordinator/server/page/index.html', import.meta.url));

export interface PageFile {
  readonly html: string;
  /** Value of the `content-security-policy` header. */
  readonly policy: string;
}

const hashes = (html: string, element: 'script' | 'style'): string =>
  [...html.matchAll(new RegExp(`<${element}[^>]*>([\\s\\S]*?)</${element}>`, 'g'))]
    .map(([, text = '']) => `'sha256-${createHash('sha256').update(text).digest('base64')}'`)
    .join(' ');

const policyOf = (html: string): string =>
  [
    "default-src 'none'",
    `script-src ${hashes(html, 'script')}`,
    `style-src ${hashes(html, 'style')}`,
    "img-src 'self' data: blob:",
    "connect-src 'self'",
    "base-uri 'none'",
    "form-action 'none'",
    "frame-ancestors 'none'",
  ].join('; ');

/** Reads the page and works out what it may run. */
export const readPage = async (): Promise<PageFile> => {
  const html = await readFile(PAGE, 'utf8');
  return { html, policy: policyOf(html) };
};

export const addPage = (app: TypedApp, { html, policy }: PageFile): void => {
  app.get('/', { config: { open: true }, schema: { hide: true } }, async (_, reply) =>
    reply
      .header('content-security-policy', policy)
      .header('referrer-policy', 'no-referrer')
      .header('cache-control', 'no-cache')
      .type('text/html; charset=utf-8')
      .send(html),
  );
};
