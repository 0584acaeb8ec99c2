import { readdir, readFile } from 'node:fs/promises';
import { describe, expect, it } from 'vitest';
import { clusterJsonSchemaText, readClusterConfig } from '#tandem/coordinator/config/index.js';

const configs = (await readdir('configs')).filter((name) => name.endsWith('.yaml'));

describe('the configs that ship', () => {
  it.each(configs)('%s is valid and names its schema on the first line', async (name) => {
    const config = await readClusterConfig(`configs/${name}`);
    expect(config.devices.length).toBe(name.startsWith('dual') ? 2 : 1);
    const text = await readFile(`configs/${name}`, 'utf8');
    expect(text.split('\n')[0]).toBe('# yaml-language-server: $schema=cluster.schema.json');
  });

  it('are described by a schema file that is up to date (else: npx tandem schema > configs/cluster.schema.json)', async () => {
    expect(await readFile('configs/cluster.schema.json', 'utf8')).toBe(clusterJsonSchemaText());
  });
});
