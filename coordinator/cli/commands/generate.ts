/** `tandem generate`: prompt in, picture out. */
import { type Command, Option } from 'commander';
import { formatBytes } from '../../config/bytes.js';
import { readClusterConfig } from '../../config/index.js';
import { type GenerateReport, generate } from '../../generate/generate.js';
import { joinHosts } from '../../hosts/index.js';
import { SCHEDULER_NAMES, type SchedulerName } from '../../pipeline/index.js';
import type { Dims } from '../../shards/dims.js';
import { type CommonOptions, type ProcessContext, withContext } from '../context.js';
import {
  dimOption,
  guidanceScale,
  jsonOption,
  nonNegativeInteger,
  positiveInteger,
  requireOptions,
  stepCount,
  traceOption,
  verboseOption,
} from '../options.js';
import { formatMs, formatTable } from '../text-table.js';

interface GenerateOptions extends CommonOptions {
  readonly config: string;
  readonly prompt: string;
  readonly negativePrompt?: string;
  readonly seed: number;
  readonly numInferenceSteps?: number;
  readonly guidanceScale?: number;
  readonly width?: number;
  readonly height?: number;
  readonly scheduler?: SchedulerName;
  readonly dim: Dims;
  readonly out: string;
}

const HELP = `
What is not given comes from the config's defaults. A seed gives the same picture on any number of workers.
With "parallel: auto", the config's default, the devices are used as the plan predicts to be fastest, and a line says how.
Shards are prepared once and reused; --json prints times per phase, the workers and the file.

Examples:
  $ tandem generate --config configs/dual-cpu.yaml --prompt "a red apple" --out apple.png
  $ tandem generate --config configs/dual-cpu.yaml --prompt "a red apple" --negative-prompt "blurry" --seed 7 \\
      --num-inference-steps 10 --guidance-scale 5 --scheduler euler --out apple.png`;

/** Only what was given, as absent options mean the config's defaults. */
const given = <T extends object>(values: T): Partial<T> =>
  Object.fromEntries(Object.entries(values).filter(([, value]) => value !== undefined)) as Partial<T>;

const stepsText = ({ num_inference_steps, timings }: GenerateReport): string => {
  const calls = timings.step_ms.length;
  return `denoise, ${num_inference_steps} ${num_inference_steps === 1 ? 'step' : 'steps'}${calls === num_inference_steps ? '' : ` (${calls} calls)`}`;
};

const generateText = (report: GenerateReport): string => {
  const { timings } = report;
  const phases: readonly (readonly [string, number])[] = [
    ['partition', timings.partition_ms],
    ['start and load workers', timings.load_ms],
    ['encode the prompt', timings.text_encode_ms],
    [stepsText(report), timings.denoise_ms],
    ['decode the latents', timings.vae_decode_ms],
    ['write the file', timings.png_ms],
    ['all', timings.total_ms],
  ];
  return [
    `Wrote ${report.file} (${report.width}x${report.height}, seed ${report.seed}, ${report.scheduler}).`,
    '',
    formatTable(
      [{ title: 'phase' }, { title: 'time', align: 'right' }],
      phases.map(([name, ms]) => [name, formatMs(ms)]),
    ),
    '',
    formatTable(
      [
        { title: 'rank', align: 'right' },
        { title: 'pid', align: 'right' },
        { title: 'weights', align: 'right' },
        { title: 'peak private memory', align: 'right' },
      ],
      report.workers.map((worker) => [
        String(worker.rank),
        String(worker.pid),
        formatBytes(worker.weight_bytes),
        formatBytes(worker.peak_private_bytes),
      ]),
    ),
  ].join('\n');
};

export const addGenerate = (program: Command, outer: ProcessContext): void => {
  program
    .command('generate')
    .description("Make a picture with all of the config's workers together.")
    .option('--config <file>', 'cluster config: a model and its devices; "tandem init" writes one')
    .option('--prompt <text>', 'what the picture should show')
    .option('--negative-prompt <text>', 'what it should not show; needs a guidance scale above 1')
    .option('--seed <n>', 'seed of the initial noise', nonNegativeInteger, 0)
    .option('--num-inference-steps <n>', 'denoising steps', stepCount)
    .option('--guidance-scale <x>', 'weight of the prompt; 1 or less runs no negative prompt', guidanceScale)
    .option('--width <pixels>', "width of the picture (default: the config's, else the model's own)", positiveInteger)
    .option('--height <pixels>', "height of the picture (default: the config's, else the model's own)", positiveInteger)
    .addOption(new Option('--scheduler <name>', "instead of the model's own scheduler").choices([...SCHEDULER_NAMES]))
    .addOption(dimOption())
    .option('--out <file>', 'where to write the picture; .png, .jpg or .webp', 'image.png')
    .addOption(traceOption())
    .addOption(jsonOption())
    .addOption(verboseOption())
    .addHelpText('after', HELP)
    .hook('preAction', requireOptions('config', 'prompt'))
    .action((options: GenerateOptions) =>
      withContext(outer, options, async (context) => {
        const { config, prompt, seed, out, dim } = options;
        const { negativePrompt, numInferenceSteps, guidanceScale, width, height, scheduler } = options;
        const asked = await readClusterConfig(config);
        const joined = await joinHosts(asked, context);
        const request = {
          ...context,
          ...given({ negativePrompt, numInferenceSteps, guidanceScale, width, height, scheduler }),
          config: joined.apply(asked),
          prompt,
          seed,
          out,
          dims: dim,
        };
        const report = await generate(request).finally(() => joined.close());
        for (const warning of report.warnings) context.onNotice(`note: ${warning}`);
        context.print(report, () => generateText(report));
      }),
    );
};
