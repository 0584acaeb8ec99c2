/** How fast a device computes, by class of operator, and how fast the ranks talk: measured (`calibrate/`), or typical. */
import type { Provider } from '../../common/onnxruntime.js';
import type { OperatorClass } from '../rules/rule.js';

export { OPERATOR_CLASSES } from '../rules/rule.js';

/** Time of an operator: `overheadMs + flops / flopsPerMs + bytes read / readBytesPerMs + bytes written / writeBytesPerMs`. */
export interface ClassRates {
  readonly overheadMs: number;
  readonly flopsPerMs: number;
  readonly readBytesPerMs: number;
  readonly writeBytesPerMs: number;
}

/** How two ranks reach each other. */
export interface LinkRates {
  /** Of one exchange, beside its bytes. */
  readonly latencyMs: number;
  /** That a rank sends while it is sent as many. */
  readonly wireBytesPerMs: number;
}

export interface Rates extends LinkRates {
  readonly classes: Readonly<Record<OperatorClass, ClassRates>>;
  /** Of single operators, where they were measured; they go before their class. Keys are those of `rateKey`. */
  readonly operators: Readonly<Record<string, ClassRates>>;
  /** Of one segment, beside its operators. */
  readonly segmentMs: number;
  /** Of one step, beside its segments and exchanges: the way from the coordinator and back. */
  readonly stepMs: number;
}

/**
 * Links between ranks of one host, as `npm run measure -- exchange` finds them: two processes on two cores, both ways at once, copies
 * in and out included. Shared memory takes no copy; its bytes cost what a cache misses.
 */
export const LINKS = {
  'shared-memory': { latencyMs: 0.015, wireBytesPerMs: 50e6 },
  ipc: { latencyMs: 0.25, wireBytesPerMs: 1e6 },
  tcp: { latencyMs: 0.3, wireBytesPerMs: 0.4e6 },
} as const satisfies Readonly<Record<string, LinkRates>>;

export type HostLink = keyof typeof LINKS;

/** The same rates for all classes: `flopsPerMs` where they compute much, `bytesPerMs` each for what is read and written. */
const uniform = (flopsPerMs: number, bytesPerMs: number, overheadMs: number): Rates['classes'] => {
  const rates = { overheadMs, flopsPerMs, readBytesPerMs: bytesPerMs, writeBytesPerMs: bytesPerMs };
  return {
    conv: rates,
    matmul: rates,
    attention: rates,
    quantised: rates,
    softmax: { ...rates, flopsPerMs: Number.POSITIVE_INFINITY },
    norm: { ...rates, flopsPerMs: Number.POSITIVE_INFINITY },
    elementwise: { ...rates, flopsPerMs: Number.POSITIVE_INFINITY },
    move: { ...rates, flopsPerMs: Number.POSITIVE_INFINITY },
  };
};

/** Out of a device's memory and into another's: two copies over the bus, and what it takes to wait for them. */
const OVER_THE_BUS: LinkRates = { latencyMs: 0.05, wireBytesPerMs: 5e6 };

/**
 * Typical rates of a device of speed 1. CPU: one core with AVX-512, read off a full-size UNet's step (`tandem bench`, 803 GFLOP in
 * 4.5 s). The others are data-sheet orders of magnitude. All are linked by memory; an exchange of a device that has memory of its own
 * takes the way through it and back as well.
 */
export const RATES: Readonly<Record<Provider, Rates>> = {
  cpu: {
    classes: uniform(220e6, 25e6, 0.003),
    operators: {},
    segmentMs: 0.04,
    ...LINKS['shared-memory'],
    stepMs: 1,
  },
  cuda: {
    classes: uniform(15e9, 800e6, 0.01),
    operators: {},
    segmentMs: 0.1,
    ...OVER_THE_BUS,
    stepMs: 1,
  },
  webgpu: {
    classes: uniform(4e9, 300e6, 0.02),
    operators: {},
    segmentMs: 0.1,
    ...OVER_THE_BUS,
    stepMs: 1,
  },
  dml: {
    classes: uniform(8e9, 400e6, 0.02),
    operators: {},
    segmentMs: 0.1,
    ...OVER_THE_BUS,
    stepMs: 1,
  },
  coreml: {
    classes: uniform(2e9, 100e6, 0.02),
    operators: {},
    segmentMs: 0.1,
    ...OVER_THE_BUS,
    stepMs: 1,
  },
};

const scaleClass = (rates: ClassRates, speed: number): ClassRates => ({
  overheadMs: rates.overheadMs / speed,
  flopsPerMs: rates.flopsPerMs * speed,
  readBytesPerMs: rates.readBytesPerMs * speed,
  writeBytesPerMs: rates.writeBytesPerMs * speed,
});

type Named = Readonly<Record<string, ClassRates>>;

const scaleAll = <T extends Named>(rates: T, speed: number): T =>
  Object.fromEntries(Object.entries(rates).map(([name, one]) => [name, scaleClass(one, speed)])) as T;

/** A device that computes `speed` times as fast; its wire stays as it is. */
export const scaleRates = (rates: Rates, speed: number): Rates => ({
  ...rates,
  classes: scaleAll(rates.classes, speed),
  operators: scaleAll(rates.operators, speed),
});

/** A device as far as its rates go. */
export interface RatedDevice {
  readonly provider: Provider;
  /** Relative to the others; absent where nobody said. */
  readonly speed?: number;
  /** Measured on this machine. */
  readonly rates?: Rates;
  /** What lies between it and the others, where that is not what its rates say. */
  readonly link?: LinkRates;
}

/** What a device does per ms: as measured, else typical of its provider, at the speed that it was said to have. */
export const ratesOf = ({ provider, speed = 1, rates, link }: RatedDevice): Rates => ({
  ...(rates ?? scaleRates(RATES[provider], speed)),
  ...link,
});
