/** All samples; every operator of the registry has at least one. */
import type { Sample } from '../sample.js';
import { CONTRACTION_SAMPLES } from './contraction.js';
import { ELEMENTWISE_SAMPLES } from './elementwise.js';
import { MOVEMENT_SAMPLES } from './movement.js';
import { REDUCTION_SAMPLES } from './reduction.js';

export const SAMPLES: readonly Sample[] = [
  ...ELEMENTWISE_SAMPLES,
  ...CONTRACTION_SAMPLES,
  ...MOVEMENT_SAMPLES,
  ...REDUCTION_SAMPLES,
];
