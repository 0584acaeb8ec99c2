/** The config's JSON Schema, for editors: `tandem schema` prints it and `configs/cluster.schema.json` keeps a copy. */
import { z } from 'zod';
import { clusterSchema } from './schema.js';

/** JSON Schema (draft 2020-12) of a cluster config as it is written, defaults not filled in. */
export const clusterJsonSchema = (): Record<string, unknown> => {
  const { $schema, ...rest } = z.toJSONSchema(clusterSchema, { io: 'input' });
  return { $schema, title: 'Tandem cluster config', ...rest };
};

/** The exact text of the committed copy. */
export const clusterJsonSchemaText = (): string => `${JSON.stringify(clusterJsonSchema(), null, 2)}\n`;
