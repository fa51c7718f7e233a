/** Arguments that the fixtures do not show: other roles, addresses, versions, and what cluster.yml can change. */
import { expect, test } from 'vitest';
import type { ServiceName } from '../../src/services/container.ts';
import { kubeApi, only, planned, plannedIn, valuesOf } from './inputs.ts';
import type { Planned } from './inputs.ts';

/** One argument of one service: its values, in cases that name what cluster.yml says more. */
interface Case extends Planned {
  readonly node?: string;
  readonly service: ServiceName;
  readonly argument: string;
  readonly wanted: string[];
}

const allEtcd = 'https://10.0.0.3:2379,https://192.0.2.4:2379';
const plugins =
  'NamespaceLifecycle,LimitRanger,ServiceAccount,DefaultStorageClass,DefaultTolerationSeconds,' +
  'MutatingAdmissionWebhook,ValidatingAdmissionWebhook,ResourceQuota,NodeRestriction,Priority,TaintNodesByCondition,' +
  'PersistentVolumeClaimResize';

test.each<[string, Case]>([
  ['servers of etcd', { service: 'kube-apiserver', argument: 'etcd-servers', wanted: [allEtcd] }],
  [
    "one's own etcd comes first",
    {
      node: 'all-1',
      service: 'kube-apiserver',
      argument: 'etcd-servers',
      wanted: ['https://192.0.2.4:2379,https://10.0.0.3:2379'],
    },
  ],
  [
    'the internal address is told to the others',
    { service: 'kube-apiserver', argument: 'advertise-address', wanted: ['10.0.0.1'] },
  ],
  [
    'no provider file without encryption',
    { service: 'kube-apiserver', argument: 'encryption-provider-config', wanted: [] },
  ],
  [
    'the provider file with encryption',
    {
      wish: { encrypted: true },
      service: 'kube-apiserver',
      argument: 'encryption-provider-config',
      wanted: ['/etc/kubernetes/ssl/encryption.yaml'],
    },
  ],
  [
    'images that are always pulled, and a limit of events',
    {
      more: kubeApi('always_pull_images: true, event_rate_limit: {enabled: true}'),
      service: 'kube-apiserver',
      argument: 'enable-admission-plugins',
      wanted: [`${plugins},AlwaysPullImages,EventRateLimit`],
    },
  ],
  [
    'extra_args comes before all that RKE says',
    {
      more: kubeApi('extra_args: {enable-admission-plugins: NodeRestriction}, always_pull_images: true'),
      service: 'kube-apiserver',
      argument: 'enable-admission-plugins',
      wanted: ['NodeRestriction'],
    },
  ],
  [
    'an empty text in extra_args is an empty value',
    {
      more: kubeApi("extra_args: {runtime-config: ''}"),
      service: 'kube-apiserver',
      argument: 'runtime-config',
      wanted: [''],
    },
  ],
  [
    'extra_args_array adds to what is there',
    {
      more: kubeApi('extra_args_array: {service-account-issuer: [https://a.example, https://b.example]}'),
      service: 'kube-apiserver',
      argument: 'service-account-issuer',
      wanted: ['rke', 'https://a.example', 'https://b.example'],
    },
  ],
  [
    'an audit log that is off leaves no argument',
    {
      more: kubeApi('audit_log: {enabled: false}'),
      service: 'kube-apiserver',
      argument: 'audit-policy-file',
      wanted: [],
    },
  ],
  [
    'what a part of its configuration does not name is 0',
    {
      more: kubeApi(
        'audit_log: {enabled: true, configuration: {max_age: 6, path: /var/log/kube-audit/a.json}}',
      ),
      service: 'kube-apiserver',
      argument: 'audit-log-maxsize',
      wanted: ['0'],
    },
  ],
  [
    'no RBAC',
    {
      more: `authorization: {mode: none}\n${kubeApi('extra_args: {admission-control-config-file: /x}')}`,
      service: 'kube-apiserver',
      argument: 'authorization-mode',
      wanted: [],
    },
  ],
  [
    'and no credentials per controller',
    {
      more: `authorization: {mode: none}\n${kubeApi('extra_args: {admission-control-config-file: /x}')}`,
      service: 'kube-controller-manager',
      argument: 'use-service-account-credentials',
      wanted: [],
    },
  ],
  [
    'a webhook that knows the users',
    {
      more: 'authentication: {strategy: x509|webhook, webhook: {cache_timeout: 9s}}\n',
      service: 'kube-apiserver',
      argument: 'authentication-token-webhook-cache-ttl',
      wanted: ['9s'],
    },
  ],
  [
    'kubelets with certificates of their own are checked',
    {
      more: 'services: {kubelet: {generate_serving_certificate: true}}\n',
      service: 'kube-apiserver',
      argument: 'kubelet-certificate-authority',
      wanted: ['/etc/kubernetes/ssl/kube-ca.pem'],
    },
  ],
  [
    'and have one',
    {
      more: 'services: {kubelet: {generate_serving_certificate: true}}\n',
      service: 'kubelet',
      argument: 'tls-private-key-file',
      wanted: ['/etc/kubernetes/ssl/kube-kubelet-10-0-0-1-key.pem'],
    },
  ],
  [
    'a controlplane node takes no pods',
    {
      service: 'kubelet',
      argument: 'register-with-taints',
      wanted: ['node-role.kubernetes.io/controlplane=true:NoSchedule'],
    },
  ],
  [
    'one that is a worker too does',
    { node: 'cp-2', service: 'kubelet', argument: 'register-with-taints', wanted: [] },
  ],
  ["the internal address is the node's", { service: 'kubelet', argument: 'node-ip', wanted: ['10.0.0.1'] }],
  [
    'without one kubelet finds it itself',
    { node: 'all-1', service: 'kubelet', argument: 'node-ip', wanted: [] },
  ],
  [
    'an argument that RKE takes away',
    { service: 'kubelet', argument: 'enforce-node-allocatable', wanted: [] },
  ],
  [
    'and that the user gives back',
    {
      more: 'services: {kubelet: {extra_args: {enforce-node-allocatable: pods}}}\n',
      service: 'kubelet',
      argument: 'enforce-node-allocatable',
      wanted: ['pods'],
    },
  ],
  [
    'the DNS cache of a node wins even over extra_args',
    {
      more: 'dns: {nodelocal: {ip_address: 169.254.20.10}}\nservices: {kubelet: {extra_args: {cluster-dns: 192.0.2.99}}}\n',
      service: 'kubelet',
      argument: 'cluster-dns',
      wanted: ['169.254.20.10'],
    },
  ],
  ['no such flag from 1.27 on', { service: 'kubelet', argument: 'container-runtime', wanted: [] }],
  [
    'before, it names the kind of runtime',
    {
      more: 'kubernetes_version: v1.26.8-rancher1-1\n',
      service: 'kubelet',
      argument: 'container-runtime',
      wanted: ['remote'],
    },
  ],
  [
    'an argument that 1.27 dropped',
    {
      more: 'kubernetes_version: v1.26.8-rancher1-1\n',
      service: 'kube-controller-manager',
      argument: 'pod-eviction-timeout',
      wanted: ['5m0s'],
    },
  ],
  [
    "an image of one's own decides which arguments there are",
    {
      more: 'system_images: {kubernetes: "r.example:5000/rancher/hyperkube:v1.26.8-rancher1"}\n',
      service: 'kube-controller-manager',
      argument: 'pod-eviction-timeout',
      wanted: ['5m0s'],
    },
  ],
  [
    'unless its tag says nothing',
    {
      more: 'system_images: {kubernetes: "r.example:5000/hyperkube"}\n',
      service: 'kube-controller-manager',
      argument: 'pod-eviction-timeout',
      wanted: [],
    },
  ],
  ['no cloud', { service: 'kube-controller-manager', argument: 'cloud-config', wanted: [] }],
  [
    'a cloud, and its file',
    {
      more: 'cloud_provider: {name: external-aws, customCloudProvider: "[Global]"}\n',
      service: 'kube-controller-manager',
      argument: 'cloud-provider',
      wanted: ['external'],
    },
  ],
  [
    'in a cloud kube-proxy is told its address',
    {
      more: 'cloud_provider: {name: external}\n',
      service: 'kube-proxy',
      argument: 'bind-address',
      wanted: ['10.0.0.1'],
    },
  ],
  [
    'in AWS the node may take its name from the machine',
    {
      more: 'cloud_provider: {name: external-aws, useInstanceMetadataHostname: true}\n',
      service: 'kubelet',
      argument: 'hostname-override',
      wanted: [],
    },
  ],
  [
    'kube-proxy then does as well',
    {
      more: 'cloud_provider: {name: external-aws, useInstanceMetadataHostname: true}\n',
      service: 'kube-proxy',
      argument: 'hostname-override',
      wanted: [],
    },
  ],
  [
    'etcd has a name of its own',
    { node: 'etcd-1', service: 'etcd', argument: 'name', wanted: ['etcd-etcd-1'] },
  ],
  [
    'etcd listens at the internal address',
    { node: 'etcd-1', service: 'etcd', argument: 'listen-peer-urls', wanted: ['https://10.0.0.3:2380'] },
  ],
  [
    'without one at all',
    { node: 'all-1', service: 'etcd', argument: 'listen-peer-urls', wanted: ['https://0.0.0.0:2380'] },
  ],
  [
    'all members in the order of the file',
    {
      node: 'all-1',
      service: 'etcd',
      argument: 'initial-cluster',
      wanted: ['etcd-etcd-1=https://10.0.0.3:2380,etcd-all-1=https://192.0.2.4:2380'],
    },
  ],
  [
    'a member that joins',
    {
      node: 'etcd-1',
      wish: { joining: new Set(['192.0.2.3']) },
      service: 'etcd',
      argument: 'initial-cluster-state',
      wanted: ['existing'],
    },
  ],
  [
    'it joins those that are there, whatever cluster.yml has',
    {
      node: 'etcd-1',
      wish: { joining: new Set(['192.0.2.3']), initialCluster: ['etcd-old=https://192.0.2.9:2380'] },
      service: 'etcd',
      argument: 'initial-cluster',
      wanted: ['etcd-old=https://192.0.2.9:2380'],
    },
  ],
  [
    'only that one joins',
    {
      node: 'all-1',
      wish: { joining: new Set(['192.0.2.3']) },
      service: 'etcd',
      argument: 'initial-cluster-state',
      wanted: ['new'],
    },
  ],
  [
    'its certificate follows the address',
    {
      node: 'etcd-1',
      service: 'etcd',
      argument: 'cert-file',
      wanted: ['/etc/kubernetes/ssl/kube-etcd-10-0-0-3.pem'],
    },
  ],
  [
    'an election timeout that the user sets',
    {
      node: 'etcd-1',
      more: 'services: {etcd: {extra_args: {election-timeout: 9000}}}\n',
      service: 'etcd',
      argument: 'election-timeout',
      wanted: ['9000'],
    },
  ],
  [
    'a folder of its own for a system whose root is read-only',
    {
      host: { operatingSystem: 'Flatcar Container Linux by Kinvolk' },
      service: 'kubelet',
      argument: 'root-dir',
      wanted: ['/opt/rke/var/lib/kubelet'],
    },
  ],
  [
    'unless cluster.yml names another',
    {
      more: 'prefix_path: /srv/k8s\n',
      host: { operatingSystem: 'Flatcar Container Linux by Kinvolk' },
      service: 'kubelet',
      argument: 'root-dir',
      wanted: ['/srv/k8s/var/lib/kubelet'],
    },
  ],
  [
    'snapshots by backup_config: so many as span the hours',
    {
      node: 'etcd-1',
      more: 'services: {etcd: {backup_config: {interval_hours: 4, retention: 9}}}\n',
      service: 'etcd-rolling-snapshots',
      argument: 'retention',
      wanted: ['36h'],
    },
  ],
  [
    'snapshots without it',
    { node: 'etcd-1', service: 'etcd-rolling-snapshots', argument: 'creation', wanted: ['12h'] },
  ],
])('%s', (_, { node = 'cp-1', service, argument, wanted, ...input }) => {
  expect(valuesOf(only(service, planned(node, input)), argument)).toEqual(wanted);
});

test('an etcd outside of the cluster', () => {
  const text = `nodes: [{address: 192.0.2.1, user: u, role: [controlplane]}]
services: {etcd: {external_urls: [https://e1.example:2379, https://e2.example:2379], ca_cert: a, cert: b, key: c, path: /mine}}
`;
  const api = only('kube-apiserver', plannedIn(text, '192.0.2.1'));
  expect(valuesOf(api, 'etcd-servers')).toEqual(['https://e1.example:2379,https://e2.example:2379']);
  expect(valuesOf(api, 'etcd-prefix')).toEqual(['/mine']);
  expect(valuesOf(api, 'etcd-keyfile')).toEqual(['/etc/kubernetes/ssl/kube-etcd-client-key.pem']);
});

test('a name is nothing to advertise, and makes the names of certificates', () => {
  const text = 'nodes: [{address: CP.example, hostname_override: cp, user: u, role: [controlplane, etcd]}]\n';
  const containers = plannedIn(text, 'cp');
  expect(valuesOf(only('kube-apiserver', containers), 'advertise-address')).toEqual([]);
  expect(valuesOf(only('etcd', containers), 'cert-file')).toEqual([
    '/etc/kubernetes/ssl/kube-etcd-cp-example.pem',
  ]);
});
