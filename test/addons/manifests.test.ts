/** The manifests that tsrke ships: whole ones as an operator would read them, and what single settings change. */
import { readFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { describe, expect, test } from 'vitest';
import type { Addon, AddonName } from '../../src/addons/addon.ts';
import { hashOf } from '../../src/addons/addon.ts';
import { wantedAddons } from '../../src/addons/wanted.ts';
import { parseManifests, type KubeObject } from '../../src/kube/manifest.ts';
import { nodes, rkeOf } from '../services/inputs.ts';

function wanted(more: string): Addon[] {
  return wantedAddons(rkeOf(`kubernetes_version: v1.30.5-rancher1-1\n${nodes}${more}`), []);
}

function addon(name: AddonName, more = ''): Addon {
  const found = wanted(more).find((each) => each.name === name);
  if (found === undefined) throw new Error(`no addon ${name}`);
  return found;
}

function objects(name: AddonName, more = ''): KubeObject[] {
  return addon(name, more).manifests.map(({ object }) => object);
}

/** Pod security, which is on by default, needs RBAC. */
const withoutRbac = `authorization: {mode: none}
services: {kube-api: {extra_args: {admission-control-config-file: /etc/kubernetes/mine.yaml}}}`;

/** Of an addon, the one of this kind (and name). */
function one(name: AddonName, more: string, kind: string, named?: string): KubeObject {
  const found = objects(name, more).find(
    (each) => each.kind === kind && (named === undefined || each.metadata.name === named),
  );
  if (found === undefined) throw new Error(`no ${kind}`);
  return found;
}

interface PodSpec {
  readonly priorityClassName?: string;
  readonly nodeSelector: Record<string, string>;
  readonly tolerations: unknown[];
  readonly containers: { readonly image: string; readonly args?: string[]; readonly command?: string[] }[];
}

interface Workload {
  readonly replicas?: number;
  readonly strategy?: unknown;
  readonly updateStrategy?: unknown;
  readonly template: { readonly spec: PodSpec; readonly metadata: { readonly annotations?: unknown } };
}

const specOf = (object: KubeObject) => object['spec'] as Workload;
const podOf = (object: KubeObject) => specOf(object).template.spec;

test.each<[string, AddonName, string]>([
  ['rbac', 'rbac', ''],
  ['flannel', 'network', 'network: {plugin: flannel}'],
  ['coredns', 'dns', ''],
  ['metrics-server', 'metrics', ''],
])('golden/%s.yaml', (file, name, more) => {
  const path = fileURLToPath(new URL(`golden/${file}.yaml`, import.meta.url));
  const golden = parseManifests(readFileSync(path, 'utf8'), file);
  expect(objects(name, more)).toEqual(golden.map(({ object }) => object));
});

test('each in its order, and only what is asked for', () => {
  const names = (more: string) => wanted(more).map(({ name }) => name);
  expect(
    names('network: {plugin: flannel}\naddons: "{apiVersion: v1, kind: Pod, metadata: {name: a}}"'),
  ).toEqual(['rbac', 'network', 'dns', 'metrics', 'addons']);
  const none = ['network: {plugin: none}', 'dns: {provider: none}', 'monitoring: {provider: none}'];
  expect(names([...none, withoutRbac, 'addons: "# nothing yet"'].join('\n'))).toEqual([]);
});

test('without RBAC there are no roles, and the accounts of the pods stay', () => {
  const kinds = wanted(`network: {plugin: flannel}\n${withoutRbac}`).flatMap(({ manifests }) =>
    manifests.map(({ object }) => object.kind),
  );
  expect(kinds.filter((kind) => /Role/.test(kind))).toEqual([]);
  expect(kinds.filter((kind) => kind === 'ServiceAccount')).toHaveLength(4);
});

test('nobody waits for pods that no worker takes, or that have no network', () => {
  const runs = (more: string) => addon('dns', more).runs;
  expect(runs('network: {plugin: flannel}')).toBe(true);
  expect(runs('network: {plugin: none}')).toBe(false);
  const only =
    'nodes: [{address: 192.0.2.1, user: u, role: [controlplane, etcd]}]\nnetwork: {plugin: flannel}';
  expect(wantedAddons(rkeOf(only), []).find(({ name }) => name === 'dns')?.runs).toBe(false);
});

describe('flannel', () => {
  const flannel = (more: string) => `network: {plugin: flannel, ${more}}`;
  const backend = (more: string) => {
    const { data } = one('network', flannel(more), 'ConfigMap') as unknown as {
      data: Record<string, string>;
    };
    return JSON.parse(data['net-conf.json'] ?? '') as unknown;
  };
  const pods = (more: string) => podOf(one('network', flannel(more), 'DaemonSet'));

  test.each([
    [
      'options: {flannel_backend_port: 4789, flannel_backend_vni: "4096"}',
      { Type: 'vxlan', VNI: 4096, Port: 4789 },
    ],
    ['options: {flannel_backend_type: host-gw}', { Type: 'host-gw' }],
    ['options: {flannel_backend_type: udp, flannel_backend_port: "8285"}', { Type: 'udp', Port: 8285 }],
  ])('%s', (more, expected) => {
    expect(backend(more)).toEqual({ Network: '10.42.0.0/16', Backend: expected });
  });

  test('its network is that of kube-controller-manager', () => {
    const more = 'network: {plugin: flannel}\nservices: {kube-controller: {cluster_cidr: 10.99.0.0/16}}';
    expect(JSON.stringify(one('network', more, 'ConfigMap'))).toContain('10.99.0.0/16');
  });

  test('interface, selector, tolerations, priority and strategy are those of cluster.yml', () => {
    const given = `options: {flannel_iface: eth1, kube_flannel_priority_class_name: mine}, node_selector: {net: "1"},
      tolerations: [{key: a, operator: Exists, tolerationseconds: 5}], update_strategy: {strategy: OnDelete}`;
    const pod = pods(given);
    expect(pod.containers[1]?.args).toEqual(['--ip-masq', '--kube-subnet-mgr', '--iface=eth1']);
    expect(pod.priorityClassName).toBe('mine');
    expect(pod.nodeSelector).toEqual({ 'kubernetes.io/os': 'linux', net: '1' });
    expect(pod.tolerations).toEqual([{ key: 'a', operator: 'Exists', tolerationSeconds: 5 }]);
    expect(specOf(one('network', flannel(given), 'DaemonSet')).updateStrategy).toEqual({ type: 'OnDelete' });
    const provider = pods('flannel_network_provider: {iface: eth2}, options: {flannel_iface: eth1}');
    expect(provider.containers[1]?.args).toContain('--iface=eth2');
    expect(pods('options: {flannel_priority_class_name: documented}').priorityClassName).toBe('documented');
  });

  test('its pods are replaced when its configuration changes', () => {
    const mark = (more: string) =>
      specOf(one('network', flannel(more), 'DaemonSet')).template.metadata.annotations;
    expect(mark('')).toEqual(mark('options: {flannel_iface: eth1}'));
    expect(mark('')).not.toEqual(mark('options: {flannel_backend_type: host-gw}'));
  });

  test('images are those of the version, of system_images, and of the default registry', () => {
    const images = (more: string) =>
      podOf(one('network', `${flannel('')}\n${more}`, 'DaemonSet')).containers.map(({ image }) => image);
    expect(images('')).toEqual([
      'rancher/flannel-cni:v1.4.1-rancher1',
      'rancher/mirrored-flannel-flannel:v0.25.1',
    ]);
    expect(images('system_images: {flannel: "mine/flannel:1"}')[1]).toBe('mine/flannel:1');
    expect(images('private_registries: [{url: r.example, is_default: true}]')[0]).toBe(
      'r.example/rancher/flannel-cni:v1.4.1-rancher1',
    );
  });
});

describe('CoreDNS', () => {
  const corefile = (more: string) => {
    const { data } = one('dns', more, 'ConfigMap') as unknown as { data: { Corefile: string } };
    return data.Corefile;
  };

  test('upstream servers, reverse networks and stub domains', () => {
    const text = corefile(
      `dns: {upstreamnameservers: [192.0.2.53, 192.0.2.54], reversecidrs: [172.16.0.0/16],
        stubdomains: {corp.example: [192.0.2.55, "192.0.2.56:5353"]}}
services: {kubelet: {cluster_domain: k8s.example}}`,
    );
    expect(text).toContain('\n    kubernetes k8s.example 172.16.0.0/16 {\n');
    expect(text).toContain('\n    forward . 192.0.2.53 192.0.2.54\n');
    expect(text.slice(text.indexOf('corp.example'))).toBe(
      'corp.example:53 {\n    errors\n    cache 30\n    forward . 192.0.2.55 192.0.2.56:5353\n}\n',
    );
  });

  test('its Service has the address that kubelets hand out', () => {
    const service = one('dns', 'services: {kubelet: {cluster_dns_server: 10.43.0.99}}', 'Service');
    expect((service['spec'] as { clusterIP: string }).clusterIP).toBe('10.43.0.99');
  });

  test('priority, selector, strategy and how it grows are those of cluster.yml', () => {
    const given = `dns: {options: {coredns_priority_class_name: a, coredns_autoscaler_priority_class_name: b},
      node_selector: {dns: "1"}, update_strategy: {strategy: RollingUpdate, rollingUpdate: {maxSurge: 2}},
      linear_autoscaler_params: {cores_per_replica: 64, nodes_per_replica: 2, min: 2, max: 9}}`;
    const dns = one('dns', given, 'Deployment', 'coredns');
    expect(podOf(dns).priorityClassName).toBe('a');
    expect(podOf(dns).nodeSelector).toEqual({ 'kubernetes.io/os': 'linux', dns: '1' });
    expect(specOf(dns).strategy).toEqual({
      type: 'RollingUpdate',
      rollingUpdate: { maxUnavailable: 1, maxSurge: 2 },
    });
    expect(specOf(dns).replicas).toBeUndefined();
    const scaler = podOf(one('dns', given, 'Deployment', 'coredns-autoscaler'));
    expect(scaler.priorityClassName).toBe('b');
    expect(scaler.containers[0]?.command).toContain(
      '--default-params={"linear":{"coresPerReplica":64,"nodesPerReplica":2,"min":2,"max":9}}',
    );
  });
});

test('metrics-server takes replicas, arguments, priority and selector from cluster.yml', () => {
  const given = `monitoring: {replicas: 2, options: {metric-resolution: 30s}, node_selector: {m: "1"},
    metrics_server_priority_class_name: mine}`;
  const server = one('metrics', given, 'Deployment');
  expect(specOf(server).replicas).toBe(2);
  expect(podOf(server).containers[0]?.args?.slice(-2)).toEqual([
    '--metric-resolution=15s',
    '--metric-resolution=30s',
  ]);
  expect(podOf(server).priorityClassName).toBe('mine');
  expect(podOf(server).nodeSelector).toEqual({ 'kubernetes.io/os': 'linux', m: '1' });
});

test('an image that nobody knows is named', () => {
  const unknown = `kubernetes_version: v1.99.0-rancher1-1\nsystem_images: {kubernetes: a:v1.30.5-rancher1}\n${nodes}`;
  expect(() => wantedAddons(rkeOf(unknown), [])).toThrow('no image is known for');
});

test('the hash is that of the meaning', () => {
  const hash = (text: string) => hashOf(parseManifests(text, 'x'));
  const base = hash('{apiVersion: v1, kind: A, metadata: {name: a, labels: {b: "1", c: "2"}}}');
  expect(base).toMatch(/^[0-9a-f]{64}$/);
  expect(hash('kind: A # moved\napiVersion: v1\nmetadata: {labels: {"c": "2", b: "1"}, name: a}')).toBe(base);
  expect(hash('{apiVersion: v1, kind: A, metadata: {name: a, labels: {b: "1", c: "3"}}}')).not.toBe(base);
});
