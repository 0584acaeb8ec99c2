/** Ranks that do not end with the same bits: whoever steps them is told, be it the server or a single picture. */
import { createHash } from 'node:crypto';
import { readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { expect, it } from 'vitest';
import { decodeModel, encodeModel } from '#tandem/partition/onnx/index.js';
import { readManifest } from '#tandem/partition/write/read-manifest.js';
import { errorOf, launchDirectory, mlpInput, withCopy } from './helpers.js';

/** Makes rank 1 join the ranks' parts of the result in another order than rank 0 does. */
const setApart = async (directory: string): Promise<void> => {
  const manifest = await readManifest(directory);
  const file = manifest.profiles[0]?.ranks[1]?.segments.at(-1)?.file ?? '';
  const model = decodeModel(await readFile(join(directory, file)));
  model.graph?.node.find(({ opType }) => opType === 'Concat')?.input.reverse();
  const bytes = encodeModel(model);
  const sha256 = createHash('sha256').update(bytes).digest('hex');
  const files = manifest.files.map((entry) =>
    entry.path === file ? { path: file, bytes: bytes.length, sha256 } : entry,
  );
  await writeFile(join(directory, file), bytes);
  await writeFile(join(directory, 'manifest.json'), JSON.stringify({ ...manifest, files }));
};

it('a step whose ranks disagree twice is refused, and comes with every digest where that is asked for', () =>
  withCopy('mlp-2', async (directory) => {
    await setApart(directory);
    const cluster = await launchDirectory(directory);
    try {
      const error = await errorOf(cluster.network().step(mlpInput()));
      expect([error.code, error.message]).toEqual([
        'RANKS_DISAGREE',
        expect.stringMatching(/all 2 ranks after a step; found 2 different ones, twice/),
      ]);
      expect((await errorOf(cluster.network().stepEach([mlpInput(), mlpInput()]))).code).toBe('RANKS_DISAGREE');
      const { ranks } = await cluster.step([mlpInput()], { mayDisagree: true });
      expect(new Set(ranks.map(({ outputs_sha256 }) => outputs_sha256)).size).toBe(2);
      expect(cluster.state).toBe('ready');
    } finally {
      await cluster.close();
    }
  }));
