/**
 * The catalogue of errors: every code with what it means, the status of an HTTP answer that tells it, and whether the same again
 * may succeed without anyone changing anything. docs/errors.md is made from it. A new code is one line here, which the compiler asks for.
 */

export interface ErrorFacts {
  readonly means: string;
  /** HTTP status; 500 where absent. */
  readonly status?: number;
  /** Whether the same again, after a while, may succeed as it is. */
  readonly retry?: true;
}

/** By folder, in the order in which data passes them. */
const PARTITION = {
  MODEL_NOT_FOUND: { means: 'There is no file at the path.' },
  MODEL_NOT_ONNX: { means: 'The file is no ONNX model.' },
  MODEL_TRUNCATED: { means: 'The ONNX file ends too early; copy it again.' },
  MODEL_MALFORMED: { means: 'The graph contradicts itself; export it again.' },
  MODEL_NO_GRAPH: { means: 'The ONNX file has no graph.' },
  MODEL_NO_OPSET: { means: 'The ONNX file does not say which version of the operators it uses.' },
  MODEL_DIMS: { means: "The sizes of the model's symbolic dims do not fit, or one is missing." },
  MODEL_GRAPH: { means: 'A node reads what nothing makes, or lacks an input; export it again.' },
  MODEL_REFUSED: { means: 'ONNX Runtime refuses the model; its own words are in the message.' },
  MODEL_TYPE: { means: 'A tensor has an element type that devices cannot exchange.' },
  MODEL_SHAPE: { means: 'The size of an input or output depends on data; export it with sizes that are known.' },
  MODEL_OUTPUTS: { means: 'An output was asked for that the model does not have.' },
  MODEL_CONTROL_FLOW: {
    means: 'The model decides at run time what it computes (If, Loop); export it with fixed sizes.',
  },
  MODEL_TOO_LARGE: { means: 'The graph has more nodes than are planned; export it without unrolling its loops.' },
  MODEL_RANDOM: { means: 'The model draws random numbers, so its ranks would not agree; export it for evaluation.' },
  WEIGHTS_MISSING: { means: "A file of the model's weights is not there." },
  WEIGHTS_TOO_SHORT: { means: "A file of the model's weights ends too early; copy it again." },
  WEIGHTS_SIZE: { means: 'A weight has more or fewer bytes than its shape takes.' },
  WEIGHTS_OUTSIDE: { means: "Weights lie outside of the model's own folder." },
  WEIGHTS_DTYPE: { means: 'A weight has an element type that cannot be split.' },
  PLAN_MEMORY: { means: 'The model fits the devices in no way; add devices, or raise memory_limit.' },
  PLAN_PIPELINE: { means: 'The model cannot be cut into so many stages.' },
  PLAN_BUFFER: { means: 'A device does not take a tensor of that size, and no rule splits it.' },
  PLAN_BATCH: { means: 'The batch has fewer parts than there are ranks.' },
  PLAN_TOKENS: { means: 'The model works on fewer tokens or rows than there are ranks.' },
  PLAN_BROKEN: { means: 'A plan contradicts itself; please report the model.' },
  PLAN_GRAPH_INVALID: { means: 'The planner was given a problem that contradicts itself; please report the model.' },
  PLAN_IMPOSSIBLE: { means: 'No way to place the tensors satisfies all rules; please report the model.' },
  PLAN_TOO_WIDE: { means: 'The graph is too entangled to be planned exactly; please report the model.' },
  LINK_UNKNOWN: { means: 'A link between devices is named that is not known.' },
  SLICE_RANGE: { means: 'A slice lies outside of its tensor; please report the model.' },
  QUANTIZE_NOTHING: { means: 'There is nothing to make int8: no linear layer or convolution with float32 weights.' },
  QUANTIZE_PROVIDER: { means: 'int8 weights need cpu devices.' },
  QUANTIZE_UNPREPARED: { means: 'int8 weights are made when segments are prepared, which was switched off.' },
  PREPARE_FAILED: { means: 'ONNX Runtime could not optimise a segment; its own words are in the message.' },
  WRITE_OCCUPIED: { means: 'The directory holds other things than shards.' },
  WRITE_BUSY: { means: 'Another process is writing the same shard directory.', retry: true },
  WRITE_CONTENT: { means: 'Segments and weights do not fit each other; please report the model.' },
  WRITE_DISK_FULL: { means: 'The disk, or the quota, is full.' },
  WRITE_DENIED: { means: 'The shard directory may not be written there.' },
  WRITE_STOPPED: { means: 'A rank was not written to its end, since another has failed.' },
  WRITE_FAILED: { means: "The shard directory could not be written; the system's words are in the message." },
  SHARD_DIRECTORY_MISSING: { means: 'There is no shard directory; make it with tandem partition.' },
  SHARD_DIRECTORY_INVALID: { means: 'The directory holds no shards.' },
  SHARD_FORMAT_VERSION: { means: 'The shards were written by another version; make them again.' },
  SHARD_MANIFEST_INVALID: { means: "The shard directory's manifest is damaged; make it again." },
} as const satisfies Record<string, ErrorFacts>;

const WORKER = {
  PROVIDER_UNAVAILABLE: { means: "This machine's ONNX Runtime lacks the provider; the message says how to get it." },
  PROVIDER_DEVICE: { means: 'The provider has no device of this number.' },
  DEVICE_WRONG: {
    means: 'A device computes something else than the CPU; the message names the operator and its sizes.',
  },
  SHARD_FILES: { means: 'Files of the shard directory are missing or have changed; make it again.' },
  SHARD_PREPARED: {
    means: 'The segments were prepared for another machine, provider or ONNX Runtime; make them again.',
  },
  SHARD_PROFILE_MISSING: { means: 'The shard directory holds no shards for these sizes.' },
  SHARD_WORLD_SIZE: { means: 'The shard directory was made for another number of ranks.' },
  ENDPOINT_INVALID: { means: 'A socket address cannot be read.' },
  ENDPOINT_IN_USE: { means: 'Another process listens at the address.' },
  ENDPOINT_NOT_LOCAL: { means: 'An address can be reached from other machines, which have no part in a cluster.' },
  ENDPOINT_TOO_LONG: { means: 'The path of a socket is longer than the system takes; use a shorter directory.' },
  EXCHANGE_CONNECT: { means: 'A rank could not be connected to its peers.' },
  EXCHANGE_FRAME: { means: 'A peer sent what does not belong into the exchange.' },
  EXCHANGE_PEER: { means: 'A program names a rank that is no peer.' },
  EXCHANGE_SOCKET: { means: 'A socket between ranks could not be opened or used.' },
  EXCHANGE_TIMEOUT: { means: 'A peer did not send in time.', retry: true },
  PROTOCOL_MESSAGE: { means: 'A control message could not be read: other versions, or a stranger.' },
  PROTOCOL_NETWORK: { means: 'A worker was asked for a network that it does not run.' },
  PROTOCOL_ORDER: { means: 'Control messages came in an order that makes no sense.' },
  SEGMENT_INPUT: { means: "A segment's input is not there when it runs." },
  SEGMENT_MISMATCH: { means: "A segment's file and its manifest differ; make the shards again." },
  SEGMENT_OPEN: { means: 'ONNX Runtime could not open a segment; its own words are in the message.' },
  SEGMENT_MISSING: { means: 'A segment was to run that was not opened.' },
  SEGMENT_OUTPUT: { means: 'A segment did not make what it is to send.' },
  DEVICE_HALF: { means: 'A device has no half precision, which was asked for; use an fp32 wire.', status: 400 },
  DEVICE_MEMORY: { means: "A segment does not fit the device's memory; use more devices, or a smaller picture." },
  SEGMENT_CHANGED: {
    means: 'A segment computes something else than right after it was loaded: weights or memory have changed.',
  },
  SEGMENT_RUN: { means: 'ONNX Runtime failed in a segment; its own words are in the message.' },
  SHARED_MEMORY: { means: 'Shared memory between ranks could not be made, or is not the one expected.' },
  STEP_ABANDONED: { means: 'A step was given up, as another rank failed.', retry: true },
  STEP_OUTPUTS: { means: 'An output of the model has another size than the manifest says.' },
  WIRE_ERROR: { means: 'Rounding on the wire was measured and is too much.' },
  WORKER_ARGUMENTS: { means: 'A worker was started with arguments that it does not know.' },
  WORKER_TOKEN: { means: "A coordinator came without the token of the worker's directory." },
  SYSTEM_MEMORY: { means: 'The system gives no more memory.' },
  SYSTEM_REFUSED: { means: 'The operating system refused something; the message has its word for it, and what to do.' },
  INTERNAL: { means: 'Something failed in a way that is not foreseen; the log has the reason.' },
} as const satisfies Record<string, ErrorFacts>;

const CLUSTER = {
  CLUSTER_CLOSED: { means: 'The workers were ended by their owner.' },
  CLUSTER_CONTROL: { means: 'The socket to the workers failed.' },
  CLUSTER_FAILED: { means: 'The workers were lost earlier.' },
  CLUSTER_IN_USE: { means: "Another coordinator runs this config's workers." },
  CLUSTER_NETWORK: { means: 'The workers do not run a network of this name.' },
  CLUSTER_RESTARTS: { means: 'A worker was lost more often than it may be started again.' },
  DETACHED_TRANSPORT: { means: 'Workers that outlive their coordinator are found by socket files, which tcp has not.' },
  RANKS_DISAGREE: { means: 'Ranks ended a step with different bits, twice.', status: 503, retry: true },
  RUNTIME_DIRECTORY: { means: 'The folder in which workers are found again is not safe to use.' },
  SHARED_MEMORY_UNAVAILABLE: { means: 'wire.transport asks for shared memory, which this machine has not.' },
  STEP_INPUTS: { means: 'A step was given other inputs than the network has.' },
  WORKER_START: { means: "A worker's process did not start, or not in time.", retry: true },
  WORKER_DIED: { means: "A worker's process ended.", retry: true },
  WORKER_FAILED: { means: 'A worker told of an error; its own code is the cause.' },
  WORKER_NOT_ADOPTED: { means: 'A worker that an earlier coordinator left could not be taken over.', retry: true },
  WORKER_STALLED: { means: 'A worker makes no progress within the time of the config.', retry: true },
  WORKER_UNRESPONSIVE: { means: 'A worker gives no sign of life.', retry: true },
} as const satisfies Record<string, ErrorFacts>;

const COORDINATOR = {
  USAGE: { means: 'The command line cannot be understood; the exit status is 2.' },
  CANCELLED: { means: 'Ctrl-C.' },
  TERMINATED: { means: 'SIGTERM.' },
  HOSTS_MISSING: { means: 'Further hosts did not join the leader in time.' },
  HOST_FILES: { means: "A host's files did not come from the leader as they should." },
  HOST_ADDRESS: { means: 'No address was found by which other hosts can reach this one.' },
  JOIN_KEY: { means: 'The leader does not list the key of a host that wants to join.' },
  JOIN_LEADER_KEY: { means: 'Who listens at the join port has another key than leader.public says.' },
  JOIN_VERSION: { means: 'A host that wants to join runs another version than the leader.' },
  JOIN_MODEL: { means: "A host serves another model than the leader's." },
  JOIN_PLACE: { means: 'The place that a host wants is taken by another one.' },
  JOIN_PROCESSOR: { means: 'A host has another kind of processor than segments are prepared for.' },
  JOIN_TIMEOUT: { means: 'A host found no leader in time.' },
  KEYS_INVALID: { means: 'Key files are missing, damaged, or open to everyone.' },
  CONFIG_MISSING: { means: 'The config file cannot be read.' },
  CONFIG_EXISTS: { means: 'A config would be written over a file that is there.' },
  CONFIG_WRITE: { means: 'The config cannot be written there.' },
  CONFIG_INVALID: { means: 'The config has mistakes, all of which are told with their lines.' },
  CALIBRATE_FAILED: { means: 'Measuring the devices failed.' },
  CALIBRATION_BROKEN: { means: 'The calibration file cannot be read; measure again.' },
  CALIBRATION_STALE: { means: 'The calibration is of another machine or version; measure again.' },
  CALIBRATION_UNWRITABLE: { means: 'The calibration file cannot be written.' },
  MODEL_MISSING: { means: 'There is no model at the path.' },
  MODEL_DIRECTORY: { means: 'The model directory lacks parts, all of which are told.' },
  MODEL_INPUTS: { means: 'A network has inputs or outputs that the pipeline cannot feed or read.' },
  DIMS_OPEN: { means: 'A symbolic dim has no size; the message names the --dim to add.' },
  PROFILE_MISSING: { means: 'The shards do not have these sizes.' },
  PLACEMENT_MEMORY: { means: 'A network beside the denoiser has no room where it is to run.' },
  REQUEST_INVALID: { means: 'The picture cannot be made as it was asked for.', status: 400 },
  REQUEST_ABORTED: { means: 'The picture was cancelled.' },
  SCHEDULER_UNSUPPORTED: { means: 'The scheduler, or a setting of it, is none that Tandem knows.' },
  SESSION_FAILED: { means: 'ONNX Runtime failed in a text encoder or the VAE.' },
  SESSION_TIMEOUT: { means: 'A text encoder or the VAE took longer than it may.', retry: true },
  TENSOR_TYPE: { means: 'A tensor has an element type that the pipeline does not convert.' },
  TENSOR_SIZE: { means: 'A tensor has more or fewer elements than expected.' },
  TOKENIZER_INVALID: { means: "The tokenizer's files cannot be read." },
  OUT_DIRECTORY: { means: 'There is no directory for the file that is to be written.' },
  OUT_FORMAT: { means: 'The name of the file to write ends in no picture format that is known.' },
  OUTPUTS_DIFFER: { means: 'Two runs have outputs of other names, types or shapes, so they cannot be compared.' },
  REFERENCE_NOT_FINITE: { means: 'The whole model itself gives infinities or NaN.' },
  BENCH_RUNS: { means: 'The runs to compare differ in model or sizes, or there are none.' },
  BENCH_FAILED: { means: 'A run could not be measured.' },
  VERIFY_WALK: {
    means: 'Following the segments one by one failed; the words of ONNX Runtime or of the system are in the message.',
  },
  PAGE_CACHE: { means: 'Files cannot be dropped from memory on this system.' },
  PLAIN_FAILED: { means: 'The whole model failed in its own process.' },
  PLAIN_TIMEOUT: { means: 'The whole model took longer than it may.' },
} as const satisfies Record<string, ErrorFacts>;

const SERVER = {
  SERVER_API_KEY: { means: 'The environment variable with the API key is empty, or the key is too short.' },
  SERVER_LISTEN: { means: 'The server cannot listen at its address.' },
  SERVED_SIZE: { means: "The denoiser was opened for another size than the config's." },
  NOT_OPENED: { means: 'The workers are not there yet.' },
  NO_PIPELINE: { means: 'A single .onnx file makes no pictures.' },
  CANARY_FAILED: { means: 'The first step after a recovery failed.' },
  SWAP_EARLY: { means: 'A swap came before the first version was ready.', retry: true },
  SWAP_UNDER_WAY: { means: 'Another swap is under way.', retry: true },
  SIZE_MEMORY: { means: 'Pictures of that size do not fit the devices beside those that are loaded.', status: 400 },
  SWAP_MEMORY: { means: 'Two versions do not fit side by side.' },
  SWAP_SERVER: { means: "A swap cannot change the config's server block." },
  SWAP_FAILED: { means: 'A swap failed in a way that is not foreseen.' },
  invalid_request: { means: 'The request cannot be taken; the message says why.', status: 400 },
  invalid_value: { means: 'A field has a value that cannot be.', status: 400 },
  missing_required_parameter: { means: 'A field is missing.', status: 400 },
  size_too_large: { means: 'Pictures of that size do not fit the memory of the devices.', status: 400 },
  unknown_parameter: { means: 'A field is not known.', status: 400 },
  malformed_request: { means: 'What came is no HTTP request.', status: 400 },
  invalid_api_key: { means: 'There is no API key, or another one.', status: 401 },
  host_not_allowed: { means: 'The Host header names another machine, and no API key is set.', status: 403 },
  model_not_found: { means: 'Another model is served.', status: 404 },
  not_found: { means: 'There is nothing at the address.', status: 404 },
  image_expired: { means: 'The picture is not kept any longer.', status: 404 },
  method_not_allowed: { means: 'The address takes another method.', status: 405 },
  body_too_large: { means: 'The body is larger than 64 KiB.', status: 413 },
  unsupported_media_type: { means: 'The body is no JSON.', status: 415 },
  queue_full: { means: 'All places in the queue are taken.', status: 429, retry: true },
  client_share_taken: { means: "The client's share of the queue is taken.", status: 429, retry: true },
  client_closed_request: { means: 'The client went away; only logs and metrics see it.', status: 499 },
  internal_error: { means: 'The server failed in a way that is not foreseen; the log has the reason.' },
  no_pipeline: { means: 'A single .onnx file makes no pictures.', status: 501 },
  not_ready: { means: 'The workers are loading or recovering.', status: 503, retry: true },
  draining: { means: 'The server is being stopped.', status: 503, retry: true },
  stopped: { means: 'The server was stopped before the picture was done.', status: 503, retry: true },
  images_unwritable: { means: 'The picture could not be kept on the disk.', status: 503 },
} as const satisfies Record<string, ErrorFacts>;

/** By who finds them. */
export const ERROR_GROUPS = { PARTITION, WORKER, CLUSTER, COORDINATOR, SERVER } as const;

export type ErrorCode =
  | keyof typeof PARTITION
  | keyof typeof WORKER
  | keyof typeof CLUSTER
  | keyof typeof COORDINATOR
  | keyof typeof SERVER;

const ERRORS: Readonly<Record<ErrorCode, ErrorFacts>> = {
  ...PARTITION,
  ...WORKER,
  ...CLUSTER,
  ...COORDINATOR,
  ...SERVER,
};

const isErrorCode = (text: string): text is ErrorCode => Object.hasOwn(ERRORS, text);

/** A code that came from another thread or process; `INTERNAL` for one that nobody knows. */
export const toErrorCode = (text: string): ErrorCode => (isErrorCode(text) ? text : 'INTERNAL');

/** HTTP status of an answer that tells of an error. */
export const statusOf = (code: ErrorCode): number => ERRORS[code].status ?? 500;
