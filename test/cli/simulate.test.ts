/** `tandem simulate` on a real graph. */
import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { fileDirectory } from '../support/directory.js';
import { tandem } from './tandem.js';

const directory = fileDirectory();
const MODEL = join('models', 'emoji-sd');

describe('tandem simulate', () => {
  it('tells a step on each number of devices over each link, as JSON and as curves', async () => {
    const svg = join(directory, 'curves.svg');
    const options = ['--devices', '1,2', '--link', 'shared-memory,1gbit', '--svg', svg, '--json'];
    const { status, stdout } = await tandem(['simulate', MODEL, ...options], directory);
    expect(status).toBe(0);
    const { points } = JSON.parse(stdout) as {
      points: { devices: number; link: string; stepMs: number; speedup: number }[];
    };
    expect(points.map(({ devices, link }) => `${devices} ${link}`)).toEqual([
      '1 shared-memory',
      '1 1gbit',
      '2 shared-memory',
      '2 1gbit',
    ]);
    const [alone, , memory, network] = points;
    expect(alone?.speedup).toBe(1);
    expect(network?.stepMs).toBeGreaterThan(memory?.stepMs ?? 0);
    expect(await readFile(svg, 'utf8')).toMatch(/^<svg .*<polyline .*1gbit.*<\/svg>\n$/s);
  });

  it('says which links there are where it does not know one', async () => {
    const { status, stderr } = await tandem(['simulate', MODEL, '--devices', '1', '--link', 'string'], directory);
    expect(status).toBe(1);
    expect(stderr).toMatch(
      /Expected a link \(as-rated, shared-memory, ipc, tcp, pcie, or a network such as 10gbit\); found "string"/,
    );
  });
});
