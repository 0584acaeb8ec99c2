/**
 * An int8 wire is used with its measured error only: `verify` remembers what it found for a split of a model, and whoever starts the same
 * split later is told where nobody has measured, and refused where it was too much.
 */
import { join } from 'node:path';
import { z } from 'zod';
import { TandemError } from '../../common/errors.js';
import { recall, remember } from '../../common/remembered.js';
import type { ClusterSettings } from '../config/index.js';
import type { Hooks } from '../hooks.js';
import { fingerprint } from '../shards/fingerprint.js';
import { denoiserRequest, type OpenedModel } from '../shards/request.js';

/** Least PSNR of the denoiser's prediction that passes. */
export const INT8_WIRE_MIN_PSNR_DB = 40;

const MEASURE = 'measure it with "tandem verify" on this config';

const found = z.object({ psnr_db: z.number() });

const whereOf = async (settings: ClusterSettings, opened: OpenedModel) => {
  const key = await fingerprint(denoiserRequest(settings, opened), settings.shards);
  return { key, file: join(settings.shards, 'wire', `${key}.json`) };
};

/** Keeps what was measured of a split; nothing where the wire rounds too little to matter. */
export const rememberWireError = async (
  settings: ClusterSettings,
  opened: OpenedModel,
  psnr_db: number,
): Promise<void> => {
  if (settings.wire.dtype !== 'int8' || !Number.isFinite(psnr_db)) return;
  const { key, file } = await whereOf(settings, opened);
  remember(file, key, { psnr_db });
};

/**
 * Says that an int8 wire's error was never measured for this split.
 * @throws TandemError `WIRE_ERROR` where it was, and is too large
 */
export const checkWireError = async (
  settings: ClusterSettings,
  opened: OpenedModel,
  { onNotice }: Pick<Hooks, 'onNotice'>,
): Promise<void> => {
  if (settings.wire.dtype !== 'int8' || settings.devices.length === 1) return;
  const { key, file } = await whereOf(settings, opened);
  const measured = recall(file, key, found);
  if (measured === undefined) {
    onNotice?.(
      `wire.dtype int8 rounds what the devices send each other, and nobody has measured how much that is here: ${MEASURE}.`,
    );
    return;
  }
  if (measured.psnr_db >= INT8_WIRE_MIN_PSNR_DB) return;
  throw new TandemError(
    'WIRE_ERROR',
    `Expected the prediction with wire.dtype int8 to be within ${INT8_WIRE_MIN_PSNR_DB} dB of the whole model's; "tandem verify" found ${measured.psnr_db.toFixed(1)} dB for this split. Use wire.dtype fp16, or ${MEASURE} again.`,
  );
};
