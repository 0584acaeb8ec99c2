/**
 * A host's own copy of the shards that it was given: by the manifest's digest, in its cache, with the files of its ranks alone. What
 * is there is not asked for again; what was broken off goes on where it ended; and what does not have its digest is no file.
 */
import { createHash } from 'node:crypto';
import { createReadStream, type Stats } from 'node:fs';
import { mkdir, open, rename, rm, stat, writeFile } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { pipeline } from 'node:stream/promises';
import { TandemError } from '../../common/errors.js';
import { type FileEntry, MANIFEST_FILE } from '../../partition/write/manifest.js';
import { readManifest } from '../../partition/write/read-manifest.js';
import { rankFiles } from '../../shard-worker/check.js';
import { manifestDigest } from '../../shard-worker/manifest-digest.js';
import { FILE_PIECE_BYTES, type StartOrder } from './messages.js';

/** As many pieces are asked for ahead. */
const AHEAD = 4;

export type NetworkOrder = StartOrder['networks'][number];

/** Asks the leader for a piece of a file; an empty one tells that the file has ended, or is not to be had. */
export type Ask = (path: string, offset: number) => Promise<Buffer>;

const statOf = (path: string): Promise<Stats | undefined> => stat(path).catch(() => undefined);

const digestOfFile = async (path: string): Promise<string> => {
  const hash = createHash('sha256');
  await pipeline(createReadStream(path), hash);
  return hash.digest('hex');
};

/** Whether a directory has this manifest and all files of the rank, by their sizes; a worker proves their contents. */
const isComplete = async (directory: string, { manifest_sha256, place }: NetworkOrder): Promise<boolean> => {
  if ((await manifestDigest(directory).catch(() => '')) !== manifest_sha256) return false;
  for (const { path, bytes } of rankFiles(await readManifest(directory), place))
    if ((await statOf(join(directory, path)))?.size !== bytes) return false;
  return true;
};

const broken = (path: string, found: string): TandemError =>
  new TandemError(
    'HOST_FILES',
    `Expected "${path}" from the leader as its manifest has it; found ${found}. Join again.`,
  );

const readManifestPieces = async (ask: Ask): Promise<Buffer> => {
  const pieces: Buffer[] = [];
  for (let offset = 0; ; offset += FILE_PIECE_BYTES) {
    const piece = await ask(MANIFEST_FILE, offset);
    pieces.push(piece);
    if (piece.byteLength < FILE_PIECE_BYTES) return Buffer.concat(pieces);
  }
};

const receiveManifest = async (directory: string, digest: string, ask: Ask): Promise<void> => {
  if ((await manifestDigest(directory).catch(() => '')) === digest) return;
  const content = await readManifestPieces(ask);
  const found = createHash('sha256').update(content).digest('hex');
  if (found !== digest) throw broken(MANIFEST_FILE, `another digest, ${found.slice(0, 16)}`);
  await mkdir(directory, { recursive: true, mode: 0o700 });
  const path = join(directory, MANIFEST_FILE);
  await writeFile(`${path}.part`, content);
  await rename(`${path}.part`, path);
};

/** Adds to a file what it lacks. */
const fetchRest = async (part: string, { path, bytes }: FileEntry, ask: Ask): Promise<void> => {
  const file = await open(part, 'a');
  try {
    const start = Math.min((await file.stat()).size, bytes);
    const ahead: Promise<Buffer>[] = [];
    let asked = start;
    for (let position = start; position < bytes; ) {
      for (; ahead.length < AHEAD && asked < bytes; asked += FILE_PIECE_BYTES) {
        const piece = ask(path, asked);
        piece.catch(() => undefined);
        ahead.push(piece);
      }
      const data = (await ahead.shift()) ?? Buffer.alloc(0);
      if (data.byteLength !== Math.min(FILE_PIECE_BYTES, bytes - position)) throw broken(path, 'less than it has');
      await file.write(data);
      position += data.byteLength;
    }
  } finally {
    await file.close();
  }
};

const receiveFile = async (directory: string, entry: FileEntry, ask: Ask): Promise<void> => {
  const path = join(directory, entry.path);
  if ((await statOf(path))?.size === entry.bytes) return;
  const part = `${path}.part`;
  await mkdir(dirname(path), { recursive: true, mode: 0o700 });
  if (((await statOf(part))?.size ?? 0) > entry.bytes) await rm(part);
  await fetchRest(part, entry, ask);
  const found = await digestOfFile(part);
  if (found !== entry.sha256) {
    await rm(part, { force: true });
    throw broken(entry.path, `another digest, ${found.slice(0, 16)}`);
  }
  await rename(part, path);
};

/** Removes files that are not what the manifest says, so that they are asked for again. */
const removeDamaged = async (directory: string, place: number): Promise<void> => {
  const manifest = await readManifest(directory).catch(() => undefined);
  for (const { path, sha256 } of manifest === undefined ? [] : rankFiles(manifest, place)) {
    const file = join(directory, path);
    if (((await statOf(file)) === undefined ? sha256 : await digestOfFile(file)) !== sha256) await rm(file);
  }
};

export class ReceivedFiles {
  readonly #root: string;
  /** Networks of workers that ended unasked: their files may be damaged. */
  readonly #doubtful = new Set<string>();

  constructor(root: string) {
    this.#root = root;
  }

  doubt(networks: readonly NetworkOrder[]): void {
    for (const { manifest_sha256, place } of networks) this.#doubtful.add(`${manifest_sha256} ${place}`);
  }

  /**
   * Where a network's shards lie on this host: where the leader has them, if this host sees the same there, else in the cache.
   * @throws TandemError `HOST_FILES`, as `ask`
   */
  async directoryOf(network: NetworkOrder, ask: Ask): Promise<string> {
    if (await isComplete(network.directory, network)) return network.directory;
    const directory = join(this.#root, network.manifest_sha256.slice(0, 16));
    if (this.#doubtful.delete(`${network.manifest_sha256} ${network.place}`))
      await removeDamaged(directory, network.place);
    await receiveManifest(directory, network.manifest_sha256, ask);
    const manifest = await readManifest(directory);
    for (const entry of rankFiles(manifest, network.place)) await receiveFile(directory, entry, ask);
    return directory;
  }
}
