/** The Helm chart: every way of setting it up is valid by the schemas, and its pods may do no more than they need. */
import { describe, expect } from 'vitest';
import { z } from 'zod';
import {
  CHART,
  helmTemplate,
  kubernetesVersions,
  leaderWorkerSet,
  type Manifest,
  ofKind,
  type PodTemplate,
  podTemplate,
  problemsOf,
  render,
} from './manifests.js';
import { configInContainer, itWith, succeed } from './tools.js';

const SECRETS = { keys: { existingSecret: 'keys' }, apiKey: { existingSecret: 'api', key: 'key' } };
const FILES = Object.fromEntries(
  ['leader.secret', 'hosts.public', 'worker.secret', 'leader.public'].map((name) => [name, `text of ${name}\n`]),
);
const MONITORED = {
  serviceMonitor: { enabled: true, labels: { release: 'prometheus' } },
  rules: { enabled: true },
  dashboard: { enabled: true },
};

const WAYS: Readonly<Record<string, object>> = {
  'two hosts with secrets that are there': SECRETS,
  'one host': { size: 1, apiKey: SECRETS.apiKey },
  'keys in the values': { keys: { files: FILES }, apiKey: { value: 'sixteen-letters-' } },
  'GPUs, a model and shards on volumes of others, and a config': {
    ...SECRETS,
    size: 4,
    replicas: 3,
    image: { repository: 'registry.example/tandem', tag: 'cuda' },
    devices: [{ provider: 'cuda', device_id: 0 }],
    config: { wire: { dtype: 'fp16' }, server: { max_queue: 64 } },
    model: { path: '/models/flux', existingClaim: 'models' },
    shards: { existingClaim: 'shards' },
    resources: { limits: { 'nvidia.com/gpu': 1 } },
    runtimeClassName: 'nvidia',
    nodeSelector: { gpu: 'h100' },
    tolerations: [{ key: 'gpu', operator: 'Exists' }],
    affinity: { nodeAffinity: {} },
    exclusiveTopology: 'rack',
    priorityClassName: 'high',
    podAnnotations: { team: 'pictures' },
    imagePullSecrets: [{ name: 'pull' }],
    service: { type: 'LoadBalancer', port: 80 },
    rollout: { maxSurge: 0, maxUnavailable: '50%' },
    networkPolicy: { clients: [{ namespaceSelector: { matchLabels: { role: 'front' } } }] },
  },
  'KEDA and monitoring': { ...SECRETS, autoscaling: { kind: 'keda' }, monitoring: MONITORED },
  'an HPA': { ...SECRETS, autoscaling: { kind: 'hpa' } },
  'no policies': { ...SECRETS, networkPolicy: { enabled: false }, podDisruptionBudget: { enabled: false } },
};

const withHelm = itWith('helm');
const withSchemas = itWith('helm', 'kubernetes-validate');

const groupOf = (manifests: readonly Manifest[]) => {
  const [group] = ofKind(manifests, 'LeaderWorkerSet');
  return leaderWorkerSet.parse(group).spec.leaderWorkerTemplate;
};

/** Of the leader, the workers and the job. */
const podsOf = (manifests: readonly Manifest[]): readonly PodTemplate[] => {
  const { leaderTemplate, workerTemplate } = groupOf(manifests);
  const jobs = ofKind(manifests, 'Job').map(({ spec }) =>
    podTemplate.parse((spec as { readonly template: unknown }).template),
  );
  return [leaderTemplate, workerTemplate, ...jobs];
};

const secretsOf = ({ spec }: PodTemplate): readonly string[] =>
  spec.volumes.flatMap(({ secret }) => secret?.items.map(({ key }) => key) ?? []);

describe('the chart', () => {
  withHelm('has no faults by helm lint', async () => {
    const values = ['--set', 'keys.existingSecret=keys,apiKey.existingSecret=api'];
    expect(await succeed('helm', ['lint', '--strict', CHART, ...values])).toMatch(
      /1 chart\(s\) linted, 0 chart\(s\) failed/,
    );
  });

  withSchemas.each(Object.keys(WAYS))('makes valid manifests of %s', async (way) => {
    const manifests = await render(WAYS[way]);
    for (const version of await kubernetesVersions()) expect(await problemsOf(manifests, version), version).toBe('');
    expect(ofKind(manifests, 'LeaderWorkerSet')).toHaveLength(1);
  });

  withHelm.each(Object.keys(WAYS))('makes a config that Tandem takes of %s', async (way) => {
    const manifests = await render(WAYS[way]);
    const [map] = ofKind(manifests, 'ConfigMap').filter(({ data }) => Object.hasOwn(Object(data), 'tandem.yaml'));
    const { data } = z.object({ data: z.object({ 'tandem.yaml': z.string() }) }).parse(map);
    const { devices, server } = await configInContainer(data['tandem.yaml']);
    expect(devices).toHaveLength(groupOf(manifests).size);
    expect(server).toMatchObject({ host: '0.0.0.0', port: 8080, apiKeyVariable: 'TANDEM_API_KEY', drainMs: 45_000 });
  });

  withSchemas('makes manifests whose mistakes would be found', async () => {
    const manifests = await render(WAYS['one host']);
    const [version] = await kubernetesVersions();
    const misspelt = JSON.parse(JSON.stringify(manifests).replaceAll('"readinessProbe"', '"readynessProbe"'));
    expect(await problemsOf(misspelt, version)).toMatch(/readynessProbe/);
    const wrong = JSON.parse(JSON.stringify(manifests).replaceAll('"restartPolicy":"None"', '"restartPolicy":"Never"'));
    expect(await problemsOf(wrong, version)).toMatch(/LeaderWorkerSet: .*restartPolicy/s);
  });

  withHelm.each([
    ['no key for clients', { size: 1 }, /Expected apiKey.existingSecret or apiKey.value/],
    ['no keys between hosts', { apiKey: SECRETS.apiKey }, /Expected keys.existingSecret, or the text of leader.secret/],
    ['a value that it does not know', { ...SECRETS, replica: 2 }, /replica/],
    ['a key for clients that is short', { size: 1, apiKey: { value: 'short' } }, /apiKey/],
    ['what it sets itself', { ...SECRETS, config: { hosts: 3 } }, /config/],
  ])('refuses %s', async (_, values, message) => {
    const { status, output } = await helmTemplate(values);
    expect(status).not.toBe(0);
    expect(output).toMatch(message);
  });
});

describe('a group', () => {
  withHelm('keeps the other pods when one is lost, and is replaced by one that is ready before it ends', async () => {
    const [group] = ofKind(await render(SECRETS), 'LeaderWorkerSet');
    expect(group).toMatchObject({
      spec: {
        rolloutStrategy: { rollingUpdateConfiguration: { maxSurge: 1, maxUnavailable: 0 } },
        leaderWorkerTemplate: { size: 2, restartPolicy: 'None' },
      },
    });
  });

  withHelm('is another revision when its config is another, and has other shards prepared', async () => {
    const [one, other] = [await render(SECRETS), await render({ ...SECRETS, config: { wire: { dtype: 'fp16' } } })];
    const annotation = (manifests: readonly Manifest[]) => groupOf(manifests).leaderTemplate.metadata.annotations;
    expect(annotation(one)).not.toEqual(annotation(other));
    const job = (manifests: readonly Manifest[]) => ofKind(manifests, 'Job').map(({ metadata }) => metadata.name);
    expect(job(one)).not.toEqual(job(other));
  });

  withHelm('runs as nobody in particular, with a root that is read-only, in every pod', async () => {
    for (const { spec } of podsOf(await render(WAYS['GPUs, a model and shards on volumes of others, and a config']))) {
      expect(spec.automountServiceAccountToken).toBe(false);
      const own = { runAsNonRoot: true, runAsUser: 10001, seccompProfile: { type: 'RuntimeDefault' } };
      expect(spec.securityContext).toMatchObject(own);
      for (const { securityContext } of [...spec.initContainers, ...spec.containers])
        expect(securityContext).toEqual({
          allowPrivilegeEscalation: false,
          readOnlyRootFilesystem: true,
          capabilities: { drop: ['ALL'] },
        });
    }
  });

  withHelm('shows each pod its own secrets alone, to be read by its own group', async () => {
    const [leader, worker, job] = podsOf(await render(SECRETS));
    if (!leader || !worker || !job) throw new Error('Expected three kinds of pods.');
    expect(secretsOf(leader)).toEqual(['leader.secret', 'hosts.public']);
    expect(secretsOf(worker)).toEqual(['worker.secret', 'leader.public']);
    expect(secretsOf(job)).toEqual([]);
    for (const { secret } of [...leader.spec.volumes, ...worker.spec.volumes])
      if (secret) expect(secret.defaultMode).toBe(0o440);
  });

  withHelm('has all three probes in every pod that stays', async () => {
    const { leaderTemplate, workerTemplate } = groupOf(await render(SECRETS));
    for (const { spec } of [leaderTemplate, workerTemplate])
      for (const found of spec.containers)
        for (const probe of [found.startupProbe, found.readinessProbe, found.livenessProbe])
          expect(probe).toBeDefined();
  });

  withHelm('is given time to finish its requests: the workers more than the leader', async () => {
    const [leader, worker] = podsOf(await render({ ...SECRETS, drain: 100 }));
    expect(leader?.spec.terminationGracePeriodSeconds).toBe(130);
    expect(worker?.spec.terminationGracePeriodSeconds).toBe(160);
  });
});

describe('autoscaling', () => {
  withHelm('goes by the requests of this release, and leaves the number of groups to itself', async () => {
    const manifests = await render({ ...SECRETS, autoscaling: { kind: 'keda', requestsPerGroup: 6 } });
    const [scaled] = ofKind(manifests, 'ScaledObject');
    const own = '{namespace="pictures",service="art-tandem-http"}';
    const query = `sum(tandem_requests_waiting${own} + tandem_requests_running${own})`;
    expect(scaled).toMatchObject({ spec: { triggers: [{ metadata: { query, threshold: '6' } }] } });
    expect(ofKind(manifests, 'Service').map(({ metadata }) => metadata.name)).toEqual(['art-tandem-http']);
    expect(ofKind(manifests, 'LeaderWorkerSet')[0]?.spec).not.toHaveProperty('replicas');
  });
});
