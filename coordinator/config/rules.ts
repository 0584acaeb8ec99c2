/**
 * What a schema cannot say: rules that span several keys or look at the disk. They read the document as it was written
 * and pass over what the schema refuses, so that one reading reports everything.
 */
import { existsSync } from 'node:fs';
import { resolve } from 'node:path';
import type { Problem } from './problems.js';

const field = (value: unknown, key: string): unknown =>
  typeof value === 'object' && value !== null ? Reflect.get(value, key) : undefined;

const worldSizeMatches = (root: unknown): readonly Problem[] => {
  const size = field(root, 'tensor_parallel_size');
  const devices = field(root, 'devices');
  if (!Number.isInteger(size) || !Array.isArray(devices) || devices.length === size) return [];
  const message = `expected ${devices.length}, the number of devices listed; found ${size} (leave the key out, or list as many devices)`;
  return [{ path: ['tensor_parallel_size'], message }];
};

/** The cpu may be listed several times, as its cores can be shared out; any other device is one worker's alone. */
const devicesDiffer = (root: unknown): readonly Problem[] => {
  const devices = field(root, 'devices');
  if (!Array.isArray(devices)) return [];
  const seen = new Map<string, number>();
  return devices.flatMap((device: unknown, index): readonly Problem[] => {
    const provider = field(device, 'provider');
    if (typeof provider !== 'string' || provider === 'cpu') return [];
    const name = `${provider}:${String(field(device, 'device_id') ?? 0)}`;
    const first = seen.get(name);
    if (first === undefined) {
      seen.set(name, index);
      return [];
    }
    const message = `expected a device of its own; ${name} is already devices[${first}] (set another device_id)`;
    return [{ path: ['devices', index], message }];
  });
};

const modelExists = (root: unknown, directory: string): readonly Problem[] => {
  const model = field(root, 'model');
  if (typeof model !== 'string' || model === '') return [];
  const path = resolve(directory, model);
  if (existsSync(path)) return [];
  return [{ path: ['model'], message: `expected a model directory or .onnx file; found nothing at ${path}` }];
};

/**
 * @param root the config as plain values
 * @param directory the config file's own directory, from which its paths start
 */
export const checkRules = (root: unknown, directory: string): readonly Problem[] => [
  ...worldSizeMatches(root),
  ...devicesDiffer(root),
  ...modelExists(root, directory),
];
