/**
 * How a rank's weights come into memory. ONNX Runtime maps them from their file in any case, so that ranks and starts share
 * pages and nothing is copied; the question is who brings the pages in.
 *
 * - `mmap`: whoever touches them first, while the file is read ahead in the background. Sessions open at once.
 * - `read`: one pass over the file, in large reads of which several are under way, before any session opens. On a network file
 *   system a page that is touched before it is there costs a round trip, one after the other; after the pass every page is there.
 */
import { statfs } from 'node:fs/promises';

export type Loader = 'mmap' | 'read';
export type LoaderChoice = Loader | 'auto';

/** File systems over a network, or through another process, by the `f_type` of statfs(2) (linux/magic.h and the systems' own headers). */
const REMOTE: ReadonlyMap<number, string> = new Map([
  [0x6969, 'NFS'],
  [0xff534d42, 'CIFS'],
  [0xfe534d42, 'SMB2'],
  [0x517b, 'SMB'],
  [0x65735546, 'FUSE'],
  [0x01021997, '9p'],
  [0x00c36400, 'Ceph'],
  [0x0bd00bd0, 'Lustre'],
  [0x5346414f, 'AFS'],
  [0x6b414653, 'AFS'],
]);

/** The loader for a file system of this type; elsewhere than on Linux its number means something else, and nothing is known. */
export const loaderFor = (type: number, platform: NodeJS.Platform): Loader =>
  // The type is 32 bits wide; as a signed number it may have come with its sign.
  platform === 'linux' && REMOTE.has(type >>> 0) ? 'read' : 'mmap';

/** What `auto` means for a directory. */
export const chooseLoader = async (choice: LoaderChoice, directory: string): Promise<Loader> =>
  choice === 'auto' ? loaderFor((await statfs(directory)).type, process.platform) : choice;
