/** The error of a step that cannot be finished, which is nobody's fault here. */
import { TandemError } from '../common/errors.js';

export const STEP_ABANDONED = 'STEP_ABANDONED';

export const stepAbandoned = (): TandemError =>
  new TandemError(STEP_ABANDONED, 'The step was abandoned because the group of workers changed; repeat it.');
