/** What `tandem bench --cold` says; the JSON keys are a contract. */

/** Whether the files are in memory when a start begins: `cold` ones must come from the disk. */
export type PageCache = 'cold' | 'warm';

/** One start, from nothing to the first result; all in ms. */
export interface ColdStart {
  readonly page_cache: PageCache;
  /** From the first process's start until all were ready. */
  readonly load_ms: number;
  readonly phases_ms: {
    /** Processes start, load their code and find their files. */
    readonly process: number;
    /** The files are read through and proved; goes on at the same time as `session`. Null where sessions do the reading. */
    readonly read: number | null;
    /** Sessions are opened. */
    readonly session: number;
    /** The first step, which touches every weight. */
    readonly warm_up: number;
  };
  /** From the first process's start to the end of the first step. */
  readonly first_step_ms: number;
  /** From the first process's start to a picture with the config's defaults; null for a bare denoiser. */
  readonly first_image_ms: number | null;
  /** What the disk delivered to all processes together until the first step's end; null where the system does not say. */
  readonly disk_read_bytes: number | null;
  /**
   * `disk_read_bytes` over the time from the first process's start until nearly all of them were read, with all that else goes on
   * in that time: to be held against the report's `disk_read_bytes_per_s`. Null for warm files and where the system does not say.
   */
  readonly read_bytes_per_s: number | null;
  /** Private memory of all processes together after the first step. */
  readonly private_bytes: number;
}

export interface ColdRunReport {
  readonly name: string;
  readonly world_size: number;
  /** Of all processes together. */
  readonly threads: number;
  /** Bytes of the files that are loaded. */
  readonly file_bytes: number;
  readonly starts: readonly ColdStart[];
}

export interface ColdReport {
  readonly model: string;
  readonly dims: Readonly<Record<string, number>>;
  /** One reader, from start to end of the first run's cold files; null without cold runs. */
  readonly disk_read_bytes_per_s: number | null;
  readonly runs: readonly ColdRunReport[];
  /** The whole model in one ONNX Runtime session, with as many threads as the last run; null where left out. */
  readonly plain: ColdRunReport | null;
  /** `load`: plain's time over the last run's; null without plain. */
  readonly speedup: { readonly load: { readonly [cache in PageCache]?: number } | null };
}
