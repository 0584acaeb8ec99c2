/**
 * Another version in place of the one that is served, without a request noticing: its workers are loaded beside the old ones and
 * proved by a first step; then new requests go to it, and the old one ends when it has answered its own. Whatever fails before
 * that leaves the old one as it is.
 */
import { isDeepStrictEqual } from 'node:util';
import type { Logger } from 'pino';
import { TandemError } from '../../common/errors.js';
import type { ClusterConfig } from '../config/index.js';
import { cancelled } from '../hooks.js';
import type { Dims } from '../shards/dims.js';
import type { Edition, Editions } from './editions.js';
import { checkSideBySide } from './memory-check.js';
import { planServing } from './serving-plan.js';
import type { SwapOutcome, SwapReport, SwapState } from './swap-report.js';

export interface SwapperOptions {
  readonly editions: Editions;
  readonly log: Logger;
  readonly dims: Dims | undefined;
  /** Told when another version is shown, before the old one ends. */
  readonly onShown: (edition: Edition) => void;
}

const swapping = (): TandemError =>
  new TandemError(
    'SWAP_UNDER_WAY',
    'Expected one swap at a time; another version is being loaded. Ask again when it is done.',
  );

/** Nothing of the socket that clients are connected to can change under them. */
const checkServerBlock = (shown: ClusterConfig, next: ClusterConfig): void => {
  const keys = Object.keys({ ...shown.server, ...next.server }) as (keyof ClusterConfig['server'])[];
  const changed = keys.filter((key) => !isDeepStrictEqual(shown.server[key], next.server[key]));
  if (changed.length === 0) return;
  throw new TandemError(
    'SWAP_SERVER',
    `Expected the config's "server:" as it was at the start; changed are ${changed.join(', ')}. Start the server again for these, or set them back to swap the model.`,
  );
};

const asTandemError = (cause: unknown): TandemError =>
  cause instanceof TandemError
    ? cause
    : new TandemError('SWAP_FAILED', 'The swap failed in a way that is not foreseen; the log has the reason.', {
        cause,
      });

export class Swapper {
  readonly #options: SwapperOptions;
  readonly #stopping = new AbortController();
  #state: SwapState = { kind: 'none' };
  #completed = 0;
  #failed = 0;
  /** Settles when no swap is under way and every version that was replaced is gone. */
  #settled: Promise<unknown> = Promise.resolve();

  constructor(options: SwapperOptions) {
    this.#options = options;
  }

  get report(): SwapReport {
    return { state: this.#state, completed: this.#completed, failed: this.#failed };
  }

  /**
   * Swaps to what `read` gives. Never rejects: a swap that fails is told by its outcome and the log, and the old version stays.
   * @param read the new config
   */
  async swap(read: () => Promise<ClusterConfig>): Promise<SwapOutcome> {
    if (this.#state.kind === 'loading') return this.#tell({ kind: 'failed', error: swapping() });
    this.#state = { kind: 'loading' };
    const work = this.#replace(read).then(
      (): SwapOutcome => ({ kind: 'completed' }),
      (cause: unknown): SwapOutcome => ({ kind: 'failed', error: asTandemError(cause) }),
    );
    this.#settled = Promise.all([this.#settled, work]);
    const outcome = await work;
    this.#state = outcome;
    return this.#tell(outcome);
  }

  /** Gives up a swap that is under way. */
  stop(): void {
    this.#stopping.abort(cancelled());
  }

  /** Waits until nothing of a swap is left. */
  async settled(): Promise<void> {
    await this.#settled;
  }

  async #replace(read: () => Promise<ClusterConfig>): Promise<void> {
    const { editions, log, dims, onShown } = this.#options;
    const { signal } = this.#stopping;
    const old = editions.shown;
    if (old === undefined) throw new TandemError('SWAP_EARLY', 'Expected a version that is ready; none is yet.');
    const config = await read();
    checkServerBlock(old.config, config);
    const plan = await planServing(config, dims);
    await checkSideBySide(old, { config, plan });
    log.info({ model: plan.served.model }, 'loading another version');
    const next = await editions.open(config, plan);
    try {
      await editions.load(next, { signal });
    } catch (error) {
      await editions.drop(next);
      throw error;
    }
    editions.show(next);
    onShown(next);
    this.#settled = Promise.all([this.#settled, this.#retire(old)]);
  }

  async #retire(old: Edition): Promise<void> {
    const { editions, log } = this.#options;
    try {
      await editions.retire(old);
      log.info({ model: old.plan.served.model }, 'the old version is gone');
    } catch (err) {
      log.error({ err }, 'the old version could not be ended');
    }
  }

  #tell(outcome: SwapOutcome): SwapOutcome {
    const { log, editions } = this.#options;
    if (outcome.kind === 'completed') {
      this.#completed += 1;
      log.info({ version: editions.shown?.engine.version }, 'swapped');
      return outcome;
    }
    this.#failed += 1;
    const { code, message, problems, cause } = outcome.error;
    log.error({ code, problem: message, problems, ...(cause instanceof Error ? { err: cause } : {}) }, 'not swapped');
    return outcome;
  }
}
