/**
 * The model families: every small export split and run against the whole, and the plans of the published configurations:
 * `npm run measure -- families`. Prints two Markdown tables. Ranks are the worker's own in one process (`runSplit`), with its
 * checks; what a plan took is processor time, which other processes do not change.
 */
import { join } from 'node:path';
import { expect, it } from 'vitest';
import { compareOutputs } from '#tandem/common/compare.js';
import { openSession } from '#tandem/common/onnxruntime.js';
import { randomInputs } from '#tandem/coordinator/verify/random-inputs.js';
import { canonicalise } from '#tandem/partition/clean/canonicalise.js';
import { fold } from '#tandem/partition/clean/fold.js';
import { decide } from '#tandem/partition/decide/decide.js';
import { type MadeReport, makeReport } from '#tandem/partition/decide/report.js';
import { findScopes } from '#tandem/partition/graph/scopes.js';
import { type PlanReport, plan } from '#tandem/partition/index.js';
import type { Cut } from '#tandem/partition/plan/cut.js';
import { readModel } from '#tandem/partition/read/index.js';
import {
  type Dims,
  dimsOf,
  isHalf,
  MORE_EXPORTS,
  MORE_FAMILIES,
  REAL_MODELS,
  type RealModel,
  SMALL_EXPORTS,
} from '../fixtures/families.js';
import { graphOnly, materialise } from '../fixtures/materialise.js';
import { runInMemory } from '../partition/in-memory.js';
import { runSplit } from '../partition/small-model.js';
import { countGathers, countInside, countRoundsInside, countSums, inDirectory } from '../partition/stages.js';

const RANKS = [2, 3, 4] as const;
const REAL_RANKS = [2, 3, 4, 5, 6, 7, 8] as const;

type Row = readonly (string | number)[];

const line = (cells: Row): string => `| ${cells.join(' | ')} |`;

/** Rows follow one by one, as they are measured. */
const printHead = (head: Row): void => console.log(`\n${line(head)}\n${line(head.map(() => '---'))}`);
const printRow = (row: Row): void => console.log(line(row));

const percent = (share: number): string => `${(share * 100).toFixed(1)} %`;
const mebibytes = (bytes: number): string => (bytes / 2 ** 20).toFixed(0);

interface Planned {
  readonly report: PlanReport;
  /** Processor time. */
  readonly seconds: number;
}

const planFor = async (path: string, worldSize: number, dims: Dims): Promise<Planned> => {
  const start = process.cpuUsage();
  const devices = Array.from({ length: worldSize }, () => ({ provider: 'cpu', deviceId: 0, speed: 1 }) as const);
  const report = await plan({ model: { path }, devices, dims, wire: 'fp32' });
  const { user, system } = process.cpuUsage(start);
  return { report, seconds: (user + system) / 1e6 };
};

interface Measured {
  readonly errors: readonly string[];
  /** Index is that of `RANKS`. */
  readonly reports: readonly PlanReport[];
  /** The smallest shares of weights and of operations that are split. */
  readonly shares: readonly string[];
}

/** One export on each number of ranks. */
const measureExport = (name: string): Promise<Measured> =>
  inDirectory(async (directory) => {
    const path = await materialise(name, join(directory, 'model'));
    const dims = dimsOf(name);
    const errors: string[] = [];
    const reports: PlanReport[] = [];
    for (const worldSize of RANKS) {
      const out = join(directory, `shards-${worldSize}`);
      const { error } = await runSplit(path, out, Array(worldSize).fill(1), { dims });
      expect(error, `${name} on ${worldSize} ranks`).toBeLessThanOrEqual(isHalf(name) ? 1e-2 : 1e-4);
      errors.push(error.toExponential(1));
      reports.push((await planFor(path, worldSize, dims)).report);
    }
    const least = (share: (report: PlanReport) => number) => percent(Math.min(...reports.map(share)));
    const shares = [least((one) => one.sharded_weight_fraction), least((one) => one.sharded_flop_fraction)];
    return { errors, reports, shares };
  });

/** A further family's export: planned and run in memory, against the whole. */
const measureFurther = (name: string, show: (ranks: number, further: Further) => void): Promise<void> =>
  inDirectory(async (directory) => {
    const path = await materialise(name, join(directory, 'model'));
    const source = await readModel(path, { requireWeights: true });
    const graph = canonicalise(await fold(source, {}));
    const inputs = randomInputs(
      graph.inputs.map(({ name: input, dtype, shape = [] }) => ({ name: input, dtype, shape })),
      7,
    );
    const session = await openSession(path, { provider: 'cpu', optimization: 'disabled' });
    const expected = await session.run(inputs);
    await session.dispose();
    const scopes = findScopes(graph, source.model);
    for (const ranks of RANKS) {
      const devices = Array.from({ length: ranks }, () => ({ provider: 'cpu', deviceId: 0, speed: 1 }) as const);
      const decided = decide(graph, { devices, wire: 'fp32', split: 'tensor', scopes, finish: (programs) => programs });
      const outputs = await runInMemory(decided.programs, inputs);
      const error = Math.max(...outputs.map((one) => compareOutputs(one, expected).max_rel_error));
      expect(error, `${name} on ${ranks} ranks`).toBeLessThanOrEqual(1e-4);
      show(ranks, { report: makeReport(decided), cut: decided.cut, error });
    }
  });

interface Further {
  readonly report: MadeReport;
  readonly cut: Cut;
  readonly error: number;
}

const describePlan = ({ name, byHand, blocks }: RealModel, worldSize: number, { report, seconds }: Planned): Row => [
  name,
  worldSize,
  percent(report.sharded_weight_fraction),
  percent(report.sharded_flop_fraction),
  `${countSums(report)} (${byHand} = ${blocks})`,
  countGathers(report),
  mebibytes(report.wire_bytes_per_step),
  mebibytes(Math.max(...report.ranks.map(({ weight_bytes }) => weight_bytes))),
  mebibytes(Math.max(...report.ranks.map(({ activation_peak_bytes }) => activation_peak_bytes))),
  `${seconds.toFixed(1)} s`,
];

it('prints the plans of the published configurations', async () => {
  printHead([
    'model',
    'ranks',
    'weights split',
    'operations split',
    'all-reduces (by hand)',
    'all-gathers',
    'sent per step, MiB',
    'weights of a rank, MiB',
    'activations, MiB',
    'planned in',
  ]);
  for (const model of REAL_MODELS) {
    await inDirectory(async (directory) => {
      const path = await graphOnly(model.skeleton, directory);
      for (const worldSize of REAL_RANKS) printRow(describePlan(model, worldSize, await planFor(path, worldSize, {})));
    });
  }
});

const WANTED = process.env.EXPORTS ?? '';

/** Those whose name begins with `EXPORTS`, or all. */
const wanted = (names: readonly string[]): readonly string[] =>
  names.filter((name) => name.replace('families/', '').startsWith(WANTED));

it('prints max_rel_error of each small export', async () => {
  printHead(['export', ...RANKS.map((n) => `${n} ranks`), 'weights split', 'operations split']);
  for (const name of wanted(SMALL_EXPORTS)) {
    const { errors, shares } = await measureExport(name);
    printRow([name.replace('families/', ''), ...errors, ...shares]);
  }
});

it('prints max_rel_error and exchanges of each export of further families', async () => {
  printHead([
    'export',
    'ranks',
    'error',
    'weights',
    'operations',
    'by hand',
    'inside of blocks',
    'rounds by hand',
    'rounds inside',
    'sums',
    'gathers',
    'rounds',
  ]);
  for (const name of wanted(MORE_EXPORTS)) {
    const short = name.replace('families/', '');
    const { byHand = 0, blocks = '', rounds = 0 } = MORE_FAMILIES[short.split('-')[0] ?? ''] ?? {};
    await measureFurther(name, (ranks, { report, cut, error }) =>
      printRow([
        short,
        ranks,
        error.toExponential(1),
        percent(report.sharded_weight_fraction),
        percent(report.sharded_flop_fraction),
        `${byHand} = ${blocks}`,
        countInside(report),
        rounds,
        countRoundsInside(report, cut),
        countSums(report),
        countGathers(report),
        report.segments - 1,
      ]),
    );
  }
});
