import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { Ajv } from 'ajv';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { clusterSchema, stateKey } from '../../src/config/keys.ts';
import type { Schema } from '../../src/config/keys.ts';
import { loadConfig } from '../../src/config/load.ts';
import type { LoadOptions } from '../../src/config/load.ts';
import { rkeConfigOf } from '../../src/config/rke-config.ts';

const fixture = (name: string) => fileURLToPath(new URL(`../fixtures/rke-1.6.3/${name}`, import.meta.url));
interface State {
  readonly desiredState: { readonly rkeConfig: Record<string, unknown> };
  readonly currentState: { readonly rkeConfig: Record<string, unknown> };
}
const enabled = JSON.parse(readFileSync(fixture('enabled.rkestate'), 'utf8')) as State;
const node = 'nodes: [{address: 192.0.2.1, user: u, role: [controlplane, etcd]}]\n';

let folder = '';
beforeAll(() => (folder = mkdtempSync(join(tmpdir(), 'tsrke-rke-config-'))));
afterAll(() => {
  rmSync(folder, { recursive: true });
});

function rke(text: string, options?: LoadOptions): Record<string, unknown> {
  const path = join(folder, 'cluster.yml');
  writeFileSync(path, text);
  return rkeConfigOf(loadConfig(path, options));
}

function at(value: unknown, path: string): unknown {
  return path.split('.').reduce<unknown>((inner, key) => (inner as Record<string, unknown>)[key], value);
}

describe("RKE's own cluster", () => {
  // RKE's --ignore-docker-version overwrites the file, whose `true` is therefore `false` in the state.
  const ours = rkeConfigOf(loadConfig(fixture('cluster.yml'), { ignoreDockerVersion: false }));

  test('is what RKE wrote to desiredState, byte for byte', () => {
    expect(JSON.stringify(ours, null, 2)).toBe(JSON.stringify(enabled.desiredState.rkeConfig, null, 2));
  });

  test("is what RKE's second pass wrote to currentState but for the drain settings it adds", () => {
    const drain = { ignoreDaemonSets: true, gracePeriod: -1, timeout: 120 };
    expect({
      ...ours,
      upgradeStrategy: { ...(ours['upgradeStrategy'] as object), nodeDrainInput: drain },
    }).toEqual(enabled.currentState.rkeConfig);
  });
});

test('the smallest file gets all defaults', () => {
  expect(rke(node)).toMatchObject({
    nodes: [
      {
        address: '192.0.2.1',
        internalAddress: '192.0.2.1',
        hostnameOverride: '192.0.2.1',
        port: '22',
        sshKeyPath: '~/.ssh/id_rsa',
      },
    ],
    network: {
      plugin: 'canal',
      options: {
        canal_flannel_backend_port: '8472',
        canal_flannel_backend_type: 'vxlan',
        canal_flannel_backend_vni: '1',
      },
    },
    dns: {
      provider: 'coredns',
      updateStrategy: { strategy: 'RollingUpdate', rollingUpdate: { maxUnavailable: 1, maxSurge: 0 } },
    },
    ingress: { provider: 'nginx' },
    monitoring: { provider: 'metrics-server' },
    enableCriDockerd: true,
    kubernetesVersion: 'v1.30.5-rancher1-1',
    systemImages: { kubernetes: 'rancher/hyperkube:v1.30.5-rancher1' },
    services: { kubeApi: { image: 'rancher/hyperkube:v1.30.5-rancher1' } },
  });
});

test.each<[string, string, string, unknown]>([
  [
    'another version brings its images',
    'kubernetes_version: v1.26.8-rancher1-1\n',
    'systemImages.kubernetes',
    'rancher/hyperkube:v1.26.8-rancher1',
  ],
  ['a version nobody knows brings none', 'kubernetes_version: v1.31.9-rancher1-1\n', 'systemImages', {}],
  ['an image of the file wins', 'system_images: {etcd: my/etcd:1}\n', 'services.etcd.image', 'my/etcd:1'],
  [
    'an image of a service has no effect',
    'services: {etcd: {image: my/etcd:1}}\n',
    'services.etcd.image',
    'rancher/mirrored-coreos-etcd:v3.5.12',
  ],
  [
    'a default registry goes in front',
    'private_registries: [{url: r.example/x, is_default: true}]\n',
    'systemImages.etcd',
    'r.example/x/rancher/mirrored-coreos-etcd:v3.5.12',
  ],
  [
    'an audit log that is off stays off',
    'services: {kube-api: {audit_log: {enabled: false}}}\n',
    'services.kubeApi.auditLog',
    {},
  ],
  [
    'a part of the audit log leaves its numbers unset',
    'services: {kube-api: {audit_log: {enabled: true, configuration: {max_age: 6}}}}\n',
    'services.kubeApi.auditLog.configuration.maxBackup',
    undefined,
  ],
  [
    'its policy is filled in',
    'services: {kube-api: {audit_log: {enabled: true, configuration: {max_age: 6}}}}\n',
    'services.kubeApi.auditLog.configuration.policy.rules',
    [{ level: 'Metadata' }],
  ],
  [
    'a false that Go would leave out is left out',
    'services: {kube-api: {always_pull_images: false}}\n',
    'services.kubeApi.alwaysPullImages',
    undefined,
  ],
  [
    'a false behind a pointer stays',
    'services: {etcd: {snapshot: false}}\n',
    'services.etcd.snapshot',
    false,
  ],
  [
    'backups get their numbers',
    'services: {etcd: {backup_config: {}}}\n',
    'services.etcd.backupConfig',
    { intervalHours: 12, retention: 6, s3BackupConfig: null, timeout: 300 },
  ],
  [
    'backups that are off do not',
    'services: {etcd: {backup_config: {enabled: false}}}\n',
    'services.etcd.backupConfig',
    { enabled: false, s3BackupConfig: null },
  ],
  [
    'a limit of events without numbers gets them',
    'services: {kube-api: {event_rate_limit: {enabled: true}}}\n',
    'services.kubeApi.eventRateLimit.configuration.limits',
    [{ type: 'Server', qps: 5000, burst: 20000 }],
  ],
  [
    "no pod security with an admission file of one's own",
    'services: {kube-api: {extra_args: {admission-control-config-file: /x}}}\n',
    'services.kubeApi.podSecurityConfiguration',
    undefined,
  ],
  [
    'a custom config is kept while encryption is on',
    'services: {kube-api: {secrets_encryption_config: {enabled: true, provider: aesgcm, max_key_age: 90d, reload: automatic, custom_config: {resources: []}}}}\n',
    'services.kubeApi.secretsEncryptionConfig',
    { enabled: true, customConfig: { resources: [] } },
  ],
  [
    'and dropped while it is off, as RKE does',
    'services: {kube-api: {secrets_encryption_config: {enabled: false, custom_config: {resources: []}}}}\n',
    'services.kubeApi.secretsEncryptionConfig',
    {},
  ],
  ['without cri-dockerd before 1.24', 'kubernetes_version: v1.23.1-rancher1-1\n', 'enableCriDockerd', null],
  [
    'irregular names',
    'cloud_provider: {vsphereCloudProvider: {virtual_center: {vc: {port: 443}}}}\n',
    'cloudProvider',
    { name: 'vsphere', vsphereCloudProvider: { virtualCenter: { vc: { port: '443' } } } },
  ],
  [
    'drain settings are filled in',
    'upgrade_strategy: {drain: true, node_drain_input: {force: true}}\n',
    'upgradeStrategy',
    {
      maxUnavailableWorker: '10%',
      maxUnavailableControlplane: '1',
      drain: true,
      nodeDrainInput: { force: true, ignoreDaemonSets: true, gracePeriod: -1, timeout: 120 },
    },
  ],
  [
    'drain without settings gets none, as in RKE',
    'upgrade_strategy: {drain: true}\n',
    'upgradeStrategy.nodeDrainInput',
    undefined,
  ],
  [
    'Recreate is left alone',
    'monitoring: {update_strategy: {strategy: Recreate}}\n',
    'monitoring.updateStrategy',
    { strategy: 'Recreate' },
  ],
  [
    'half a rolling update is completed',
    'monitoring: {update_strategy: {strategy: RollingUpdate, rollingUpdate: {maxSurge: 0}}}\n',
    'monitoring.updateStrategy.rollingUpdate',
    { maxUnavailable: '25%', maxSurge: 0 },
  ],
  [
    'no default for the DNS that one brings oneself',
    'dns: {provider: none}\n',
    'dns.updateStrategy',
    undefined,
  ],
  ['an empty name is no name', "cluster_name: ''\n", 'clusterName', 'local'],
  ['null is no value', 'cluster_name: ~\n', 'clusterName', 'local'],
  [
    'what RKE dropped does not come back',
    'services: {kube-api: {pod_security_policy: true}}\n',
    'services.kubeApi.podSecurityPolicy',
    undefined,
  ],
])('%s', (_, text, path, wanted) => {
  expect(at(rke(node + text), path)).toEqual(wanted);
});

test('maps are sorted by key, as Go writes them', () => {
  const text = 'services: {kubelet: {extra_args: {v: 2, b: 1, A: 1}}}\n';
  expect(JSON.stringify(at(rke(node + text), 'services.kubelet.extraArgs'))).toBe(
    '{"A":"1","b":"1","v":"2"}',
  );
});

test('names of nodes are in lower case, and the agent is everywhere', () => {
  const text =
    'nodes: [{address: CP.example, hostname_override: CP-1, user: u, role: [controlplane]}]\n' +
    'bastion_host: {address: b, user: u}\n';
  expect(rke(text, { sshAgentAuth: true })).toMatchObject({
    nodes: [
      { address: 'CP.example', internalAddress: 'CP.example', hostnameOverride: 'cp-1', sshAgentAuth: true },
    ],
    bastionHost: { address: 'b', port: '22', user: 'u', sshKeyPath: '~/.ssh/id_rsa', sshAgentAuth: true },
    sshAgentAuth: true,
  });
});

test('keys that nobody knows stay out, as RKE drops them', () => {
  expect(JSON.stringify(rke(`${node}mistake: 1\n`, { ignoreUnknownKeys: true }))).not.toContain('mistake');
});

test('nothing that cluster.yml says is changed', () => {
  const config = loadConfig(fixture('cluster.yml'));
  const before = structuredClone(config);
  rkeConfigOf(config);
  expect(config).toEqual(before);
});

test('the schema is one of JSON Schema', () => {
  const ajv = new Ajv();
  expect(ajv.validateSchema(clusterSchema), ajv.errorsText()).toBe(true);
});

test('each default of the schema is the one that is filled in', () => {
  const filled = rke(
    `${node}bastion_host: {address: b, user: u}\nupgrade_strategy: {drain: false}\nauthentication: {webhook: {}}\n` +
      'services: {etcd: {backup_config: {}}}\n',
  );
  const wrong: string[] = [];
  const walk = (schema: Schema & { default?: unknown }, value: unknown, path: string) => {
    // Go leaves false out, and what is unset in a struct that is not there has no default yet.
    if (schema.default !== undefined && schema.default !== false && value !== schema.default)
      wrong.push(path);
    if (typeof value !== 'object' || value === null) return;
    for (const [key, inner] of Object.entries(schema.properties ?? {})) {
      walk(inner, (value as Record<string, unknown>)[stateKey(key)], `${path}/${key}`);
    }
  };
  walk(clusterSchema, filled, '');
  // RKE takes absent for true here and does not write it.
  expect(wrong).toEqual(['/services/etcd/backup_config/enabled']);
});
