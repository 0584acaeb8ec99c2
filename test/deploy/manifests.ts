/** What the chart makes of values, and what resources of others' kinds may say: the parts of their schemas that the chart uses. */
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { parseAllDocuments, stringify } from 'yaml';
import { z } from 'zod';
import { type Ran, run, succeed } from './tools.js';

export const CHART = 'deploy/helm/tandem';

export const manifest = z.looseObject({
  apiVersion: z.string(),
  kind: z.string(),
  metadata: z.looseObject({ name: z.string(), labels: z.record(z.string(), z.string()).optional() }),
});
export type Manifest = z.infer<typeof manifest>;

const container = z.looseObject({
  name: z.string(),
  args: z.array(z.string()).optional(),
  command: z.array(z.string()).optional(),
  securityContext: z.looseObject({}),
  volumeMounts: z.array(z.looseObject({ name: z.string(), mountPath: z.string(), readOnly: z.boolean().optional() })),
  lifecycle: z.looseObject({}).optional(),
  startupProbe: z.looseObject({}).optional(),
  readinessProbe: z.looseObject({}).optional(),
  livenessProbe: z.looseObject({}).optional(),
});
const secretVolume = z.looseObject({
  secretName: z.string(),
  defaultMode: z.number(),
  items: z.array(z.strictObject({ key: z.string(), path: z.string() })),
});
const podSpec = z.looseObject({
  automountServiceAccountToken: z.boolean(),
  securityContext: z.looseObject({}),
  initContainers: z.array(container).default([]),
  containers: z.array(container),
  volumes: z.array(z.looseObject({ name: z.string(), secret: secretVolume.optional() })),
});
/** Kubernetes' own schema says the rest. */
export const podTemplate = z.strictObject({ metadata: z.looseObject({}), spec: podSpec });
export type PodTemplate = z.infer<typeof podTemplate>;

const countOrPercent = z.union([z.number().int().min(0), z.string().regex(/^\d+%$/)]);
const metadata = z.looseObject({ name: z.string() });

/** `leaderworkerset.x-k8s.io/v1`, as its API reference has it. */
export const leaderWorkerSet = z.strictObject({
  apiVersion: z.literal('leaderworkerset.x-k8s.io/v1'),
  kind: z.literal('LeaderWorkerSet'),
  metadata,
  spec: z.strictObject({
    replicas: z.number().int().min(0).optional(),
    startupPolicy: z.enum(['LeaderCreated', 'LeaderReady']),
    rolloutStrategy: z.strictObject({
      type: z.literal('RollingUpdate'),
      rollingUpdateConfiguration: z
        .strictObject({ maxSurge: countOrPercent, maxUnavailable: countOrPercent })
        .refine(({ maxSurge, maxUnavailable }) => maxSurge !== 0 || maxUnavailable !== 0),
    }),
    leaderWorkerTemplate: z.strictObject({
      size: z.number().int().min(1),
      restartPolicy: z.enum(['None', 'RecreateGroupOnPodRestart', 'RecreateGroupAfterStart']),
      leaderTemplate: podTemplate,
      workerTemplate: podTemplate,
    }),
  }),
});

const scalingRules = z.strictObject({
  stabilizationWindowSeconds: z.number().int().min(0).max(3600),
  policies: z.array(
    z.strictObject({ type: z.enum(['Pods', 'Percent']), value: z.number().int().min(1), periodSeconds: z.number() }),
  ),
});

/** `keda.sh/v1alpha1`. */
const scaledObject = z.strictObject({
  apiVersion: z.literal('keda.sh/v1alpha1'),
  kind: z.literal('ScaledObject'),
  metadata,
  spec: z.strictObject({
    scaleTargetRef: z.strictObject({ apiVersion: z.string(), kind: z.string(), name: z.string() }),
    minReplicaCount: z.number().int().min(0),
    maxReplicaCount: z.number().int().min(1),
    cooldownPeriod: z.number().int().min(0),
    advanced: z.strictObject({
      horizontalPodAutoscalerConfig: z.strictObject({
        behavior: z.strictObject({ scaleUp: scalingRules, scaleDown: scalingRules }),
      }),
    }),
    fallback: z.strictObject({
      failureThreshold: z.number().int(),
      replicas: z.number().int(),
      behavior: z.enum(['static', 'currentReplicas', 'currentReplicasIfHigher', 'currentReplicasIfLower']),
    }),
    triggers: z.array(
      z.strictObject({
        type: z.literal('prometheus'),
        metricType: z.enum(['AverageValue', 'Value']),
        // Its texts are all texts.
        metadata: z.strictObject({ serverAddress: z.url(), query: z.string(), threshold: z.string() }),
      }),
    ),
  }),
});

const labelSelector = z.strictObject({ matchLabels: z.record(z.string(), z.string()) });

/** `monitoring.coreos.com/v1`. */
const serviceMonitor = z.strictObject({
  apiVersion: z.literal('monitoring.coreos.com/v1'),
  kind: z.literal('ServiceMonitor'),
  metadata,
  spec: z.strictObject({
    selector: labelSelector,
    endpoints: z.array(
      z.strictObject({
        port: z.string(),
        path: z.string(),
        interval: z.string().regex(/^\d+[smh]$/),
        authorization: z.strictObject({
          type: z.string(),
          credentials: z.strictObject({ name: z.string(), key: z.string() }),
        }),
      }),
    ),
  }),
});

const prometheusRule = z.strictObject({
  apiVersion: z.literal('monitoring.coreos.com/v1'),
  kind: z.literal('PrometheusRule'),
  metadata,
  spec: z.strictObject({
    groups: z.array(
      z.strictObject({
        name: z.string(),
        rules: z.array(
          z.strictObject({
            alert: z.string(),
            expr: z.string(),
            for: z.string().optional(),
            labels: z.record(z.string(), z.string()),
            annotations: z.record(z.string(), z.string()),
          }),
        ),
      }),
    ),
  }),
});

const CUSTOM: Readonly<Record<string, z.ZodType>> = {
  LeaderWorkerSet: leaderWorkerSet,
  ScaledObject: scaledObject,
  ServiceMonitor: serviceMonitor,
  PrometheusRule: prometheusRule,
};

export const helmTemplate = (values: unknown): Promise<Ran> => {
  const directory = mkdtempSync(join(tmpdir(), 'tandem-values-'));
  const file = join(directory, 'values.yaml');
  writeFileSync(file, stringify(values));
  return run('helm', ['template', 'art', CHART, '--namespace', 'pictures', '--values', file]).finally(() =>
    rmSync(directory, { recursive: true }),
  );
};

/** @throws where the chart refuses the values */
export const render = async (values: unknown): Promise<readonly Manifest[]> => {
  const { status, stdout, output } = await helmTemplate(values);
  if (status !== 0) throw new Error(output);
  const documents = parseAllDocuments(stdout).map((document) => {
    if (document.errors.length > 0) throw new Error(`${document.errors.join('\n')}\n${stdout}`);
    return document.toJS() as unknown;
  });
  return documents.filter((found) => found !== null).map((found) => manifest.parse(found));
};

export const ofKind = (manifests: readonly Manifest[], kind: string): readonly Manifest[] =>
  manifests.filter((found) => found.kind === kind);

/** What Kubernetes itself is to check: its own kinds, and the pods that are inside of others'. */
const native = (manifests: readonly Manifest[]): readonly object[] =>
  manifests.flatMap((found): readonly object[] => {
    if (found.kind !== 'LeaderWorkerSet') return found.kind in CUSTOM ? [] : [found];
    const { leaderTemplate, workerTemplate } = leaderWorkerSet.parse(found).spec.leaderWorkerTemplate;
    return [leaderTemplate, workerTemplate].map((template) => ({
      apiVersion: 'v1',
      kind: 'PodTemplate',
      metadata: { name: found.metadata.name },
      template,
    }));
  });

/** All that is wrong with manifests, by the schemas of their kinds; the empty text where nothing is. */
export const problemsOf = async (manifests: readonly Manifest[], kubernetes: string): Promise<string> => {
  const custom = manifests.flatMap((found) => {
    const result = CUSTOM[found.kind]?.safeParse(found);
    return result?.success === false ? [`${found.kind}: ${z.prettifyError(result.error)}`] : [];
  });
  if (custom.length > 0) return custom.join('\n');
  const directory = mkdtempSync(join(tmpdir(), 'tandem-manifests-'));
  const files = native(manifests).map((found, index) => {
    const file = join(directory, `${index}.yaml`);
    writeFileSync(file, stringify(found));
    return file;
  });
  const options = ['--strict', '--quiet', '--no-warn', '--kubernetes-version', kubernetes];
  const { status, output } = await run('kubernetes-validate', [...options, ...files]);
  rmSync(directory, { recursive: true });
  return status === 0 ? '' : `${status}: ${output}`;
};

/** The newest and the oldest that kubernetes-validate knows of those that the chart takes. */
export const kubernetesVersions = async (): Promise<readonly [string, string]> => {
  const text = await succeed('kubernetes-validate', ['--version']);
  const [, newest = ''] = /(\d+\.\d+\.\d+)/.exec(text) ?? [];
  return [newest, '1.27.0'];
};
