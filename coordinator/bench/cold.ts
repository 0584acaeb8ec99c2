/** Measures starts: from no process at all to the first step and the first picture, with cold and with warm files. */
import { statSync } from 'node:fs';
import { TandemError } from '../../common/errors.js';
import { checkCancelled, type Hooks } from '../hooks.js';
import { closing } from '../start-cluster.js';
import { randomInputs } from '../verify/random-inputs.js';
import {
  type ColdContestant,
  type ColdRun,
  clusterContestant,
  drawPicture,
  plainContestant,
} from './cold-contestant.js';
import type { ColdReport, ColdRunReport, ColdStart, PageCache } from './cold-report.js';
import { checkComparable } from './comparable.js';
import { prepareRuns } from './contestant.js';
import { DiskWatch } from './disk-watch.js';
import { dropPageCache, readSequentially } from './page-cache.js';

export interface ColdRequest extends Hooks {
  /** At least one; the last is what plain ONNX Runtime is compared with. All run the same model with the same dims. */
  readonly runs: readonly ColdRun[];
  /** In which states of the page cache to start, in this order. */
  readonly pageCaches: readonly PageCache[];
  readonly plain: boolean;
  readonly seed: number;
}

/** Starts one contestant, one after the other, so that no one's loading slows another's. */
const measure = async (contestant: ColdContestant, pageCache: PageCache, request: ColdRequest): Promise<ColdStart> => {
  checkCancelled(request.signal);
  if (pageCache === 'cold') await dropPageCache(contestant.files);
  else await readSequentially(contestant.files);
  const begin = performance.now();
  const started = await contestant.start();
  const load = performance.now() - begin;
  return closing(request.signal, started.close, async () => {
    const { denoiser, phases } = started;
    const disk = new DiskWatch(started.pids, begin);
    await denoiser.step(randomInputs(contestant.inputs, request.seed)).finally(() => disk.stop());
    const firstStep = performance.now() - begin;
    const read = disk.stop();
    const privateBytes = started.privateBytes();
    const beforePicture = performance.now();
    if (contestant.picture) await drawPicture(contestant.picture, denoiser);
    const picture = performance.now() - beforePicture;
    return {
      page_cache: pageCache,
      load_ms: load,
      phases_ms: { ...phases, warm_up: firstStep - load },
      first_step_ms: firstStep,
      first_image_ms: contestant.picture ? load + picture : null,
      disk_read_bytes: read?.bytes ?? null,
      read_bytes_per_s: pageCache === 'cold' && read ? (read.bytes / read.ms) * 1000 : null,
      private_bytes: privateBytes,
    };
  });
};

const enter = async (request: ColdRequest, last: ColdRun): Promise<readonly ColdContestant[]> => {
  const ready = await prepareRuns(request.runs, request);
  const contestants = request.runs.flatMap((run, index) => {
    const own = ready[index];
    return own ? [clusterContestant(run, own, request)] : [];
  });
  const [first] = ready;
  return request.plain && first ? [...contestants, await plainContestant(last, first.shards, request)] : contestants;
};

/** The disk's own speed, as what a cold start can at best be held against. */
const diskRate = async (contestant: ColdContestant): Promise<number> => {
  await dropPageCache(contestant.files);
  const { bytes, ms } = await readSequentially(contestant.files);
  return (bytes / ms) * 1000;
};

const fileBytes = (files: readonly string[]): number => files.reduce((sum, file) => sum + statSync(file).size, 0);

const loadOf = (run: ColdRunReport, cache: PageCache): number | undefined =>
  run.starts.find(({ page_cache }) => page_cache === cache)?.load_ms;

/** Plain's load time over the run's, in each state that both were started in. */
export const compareLoads = (plain: ColdRunReport, run: ColdRunReport): Readonly<Partial<Record<PageCache, number>>> =>
  Object.fromEntries(
    (['cold', 'warm'] as const).flatMap((cache) => {
      const [theirs, ours] = [loadOf(plain, cache), loadOf(run, cache)];
      return theirs === undefined || ours === undefined ? [] : [[cache, theirs / ours]];
    }),
  );

/**
 * Starts every run, and the plain alternative, in each state of the page cache.
 * @throws TandemError `BENCH_RUNS` where the runs cannot be compared, `PAGE_CACHE` where the page cache cannot be dropped; as
 *   `prepareShards` and `launchCluster` do otherwise. No process is left behind.
 */
export const benchCold = async (request: ColdRequest): Promise<ColdReport> => {
  const [, last] = checkComparable(request.runs);
  const contestants = await enter(request, last);
  const [first] = contestants;
  if (!first) throw new TandemError('BENCH_RUNS', 'Expected at least one run; found none.');
  const rate = request.pageCaches.includes('cold') ? await diskRate(first) : null;
  const starts = contestants.map((): ColdStart[] => []);
  const total = request.pageCaches.length * contestants.length;
  for (const pageCache of request.pageCaches) {
    for (const [index, contestant] of contestants.entries()) {
      starts[index]?.push(await measure(contestant, pageCache, request));
      request.onProgress?.('starts', starts.flat().length, total);
    }
  }
  const reports = contestants.map(
    ({ name, worldSize, threads, files }, index): ColdRunReport => ({
      name,
      world_size: worldSize,
      threads,
      file_bytes: fileBytes(files),
      starts: starts[index] ?? [],
    }),
  );
  const runs = reports.slice(0, request.runs.length);
  const [plain, final] = [reports[request.runs.length], runs.at(-1)];
  return {
    model: last.model.path,
    dims: last.dims,
    disk_read_bytes_per_s: rate,
    runs,
    plain: plain ?? null,
    speedup: { load: plain && final ? compareLoads(plain, final) : null },
  };
};
