/**
 * Whether the ranks of a step agree. Devices of one kind end with the same bits. A CPU and a graphics card, or two kinds of card, round
 * what each computes whole in their own ways, and only their sums are the same: of those, the numbers are compared.
 */
import { compareOutputs } from '../../common/compare.js';
import type { Provider } from '../../common/onnxruntime.js';
import { differentOutputs } from './errors.js';
import type { RankStep } from './types.js';

/** How far replicas on unlike devices may be apart: of the largest value. Half precision on the wire or in the weights rounds so. */
const TOLERANCE = 2e-2;

interface Device {
  readonly provider: Provider;
  readonly deviceId: number;
}

/** Whether these devices may round differently. */
export const areUnlike = (devices: readonly Device[]): boolean => {
  const kinds = devices.map(({ provider, deviceId }) => (provider === 'cpu' ? provider : `${provider} ${deviceId}`));
  return new Set(kinds).size > 1;
};

const isClose = ({ outputs: found = [] }: RankStep, { outputs: expected = [] }: RankStep): boolean =>
  expected.length > 0 &&
  expected.every((tensors, index) => compareOutputs(found[index] ?? {}, tensors).max_rel_error <= TOLERANCE);

/** @param ranks with their outputs, where the devices are unlike */
export const doAgree = (ranks: readonly RankStep[], devices: readonly Device[]): boolean => {
  if (differentOutputs(ranks) <= 1) return true;
  const [first, ...others] = ranks;
  return areUnlike(devices) && first !== undefined && others.every((rank) => isClose(rank, first));
};
