/**
 * The layout that `processor-layout.ts` finds out, remembered: a machine's processor stays the same for as long as it runs, and to ask
 * ONNX Runtime takes a tenth of a second with all that must be loaded for it, which a warm start does not have.
 */
import { readFileSync } from 'node:fs';
import { arch } from 'node:os';
import { join } from 'node:path';
import { z } from 'zod';
import { ONNXRUNTIME_VERSION, type Provider } from '../../../common/onnxruntime.js';
import { recall, remember, userCache } from '../../../common/remembered.js';

/** Raised when what `processor-layout.ts` asks changes, so that answers to an older question are not taken. */
const QUESTION = 2;

/** Changes with every start of the machine; undefined where the system does not say. */
const bootId = (): string | undefined => {
  try {
    return readFileSync('/proc/sys/kernel/random/boot_id', 'utf8').trim();
  } catch {
    return undefined;
  }
};

const askOnce = async (provider: Provider): Promise<string> => {
  const { probeLayout } = await import('./processor-layout.js');
  return probeLayout(provider);
};

const askOncePerBoot = async (provider: Provider): Promise<string> => {
  const boot = bootId();
  if (boot === undefined) return askOnce(provider);
  const path = join(userCache(), `layout-${provider}.json`);
  const key = [QUESTION, boot, arch(), ONNXRUNTIME_VERSION].join(' ');
  const known = recall(path, key, z.string());
  if (known !== undefined) return known;
  const layout = await askOnce(provider);
  remember(path, key, layout);
  return layout;
};

const layouts = new Map<Provider, Promise<string>>();

/**
 * Digest of how ONNX Runtime lays out weights for this provider on this machine.
 * @throws whatever ONNX Runtime says, as an `Error`
 */
export const findLayout = (provider: Provider): Promise<string> => {
  const layout = layouts.get(provider) ?? askOncePerBoot(provider);
  layouts.set(provider, layout);
  return layout;
};
