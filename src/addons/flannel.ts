/** The network plugin flannel: one pod on every node that hands out its pods' addresses and routes between nodes. */
import { createHash } from 'node:crypto';
import type { RkeConfig } from '../config/rke-config.ts';
import type { KubeObject } from '../kube/manifest.ts';
import { imageOf } from '../services/cluster.ts';
import { ownAddon, type Addon } from './addon.ts';
import {
  clusterRole,
  clusterRoleBinding,
  everyTaint,
  optionOf,
  serviceAccount,
  settingsOf,
  strategyOf,
  tolerationsOf,
  type Settings,
} from './settings.ts';

const name = 'flannel';
const labels = { 'k8s-app': 'flannel' } as const;
const files = 'kube-flannel-cfg';

export function flannel(rke: RkeConfig): Addon {
  const { network, rbac } = settingsOf(rke);
  const config = {
    'cni-conf.json': json(cni),
    'net-conf.json': json({
      Network: rke.services.kubeController.clusterCidr,
      Backend: backendOf(network),
    }),
  };
  const rights = rbac
    ? [
        clusterRole(
          name,
          [
            { apiGroups: [''], resources: ['pods'], verbs: ['get'] },
            { apiGroups: [''], resources: ['nodes'], verbs: ['get', 'list', 'watch'] },
            { apiGroups: [''], resources: ['nodes/status'], verbs: ['patch'] },
          ],
          labels,
        ),
        clusterRoleBinding(name, name, name, labels),
      ]
    : [];
  return ownAddon({
    name: 'network',
    title: name,
    critical: true,
    runs: true,
    objects: [
      serviceAccount(name, labels),
      ...rights,
      {
        apiVersion: 'v1',
        kind: 'ConfigMap',
        metadata: { name: files, namespace: 'kube-system', labels: { ...labels, tier: 'node' } },
        data: config,
      },
      daemonSet(rke, network, hash(config)),
    ],
  });
}

const cni = {
  name: 'cbr0',
  cniVersion: '0.3.1',
  plugins: [
    { type: 'flannel', delegate: { forceAddress: true, hairpinMode: true, isDefaultGateway: true } },
    { type: 'portmap', capabilities: { portMappings: true } },
  ],
};

function backendOf(network: Settings['network']) {
  const type = optionOf(network, 'flannel_backend_type') ?? 'vxlan';
  const port = { Port: Number(optionOf(network, 'flannel_backend_port') ?? 8472) };
  const vni = Number(optionOf(network, 'flannel_backend_vni') ?? 1);
  if (type === 'vxlan') return { Type: type, VNI: vni, ...port };
  return type === 'udp' ? { Type: type, ...port } : { Type: type };
}

function daemonSet(rke: RkeConfig, network: Settings['network'], configHash: string): KubeObject {
  const own = network.flannelNetworkProvider?.iface ?? '';
  const iface = own === '' ? (optionOf(network, 'flannel_iface') ?? '') : own;
  const strategy = strategyOf(network);
  return {
    apiVersion: 'apps/v1',
    kind: 'DaemonSet',
    metadata: { name: 'kube-flannel', namespace: 'kube-system', labels: { ...labels, tier: 'node' } },
    spec: {
      selector: { matchLabels: labels },
      ...(strategy === undefined ? {} : { updateStrategy: strategy }),
      template: {
        metadata: {
          labels: { ...labels, tier: 'node' },
          // flannel reads its configuration once, when it starts.
          annotations: { 'tsrke.io/config-sha256': configHash },
        },
        spec: {
          serviceAccountName: name,
          hostNetwork: true,
          priorityClassName:
            optionOf(network, 'kube_flannel_priority_class_name') ??
            // The name in RKE's documentation.
            optionOf(network, 'flannel_priority_class_name') ??
            'system-node-critical',
          nodeSelector: { 'kubernetes.io/os': 'linux', ...network.nodeSelector },
          tolerations: tolerationsOf(network, everyTaint),
          containers: [
            {
              name: 'install-cni',
              image: imageOf(rke, 'flannelCni'),
              command: ['/install-cni.sh'],
              env: [
                {
                  name: 'CNI_NETWORK_CONFIG',
                  valueFrom: { configMapKeyRef: { name: files, key: 'cni-conf.json' } },
                },
                { name: 'CNI_CONF_NAME', value: '10-flannel.conflist' },
              ],
              volumeMounts: [
                { name: 'cni', mountPath: '/host/etc/cni/net.d' },
                { name: 'host-cni-bin', mountPath: '/host/opt/cni/bin/' },
              ],
            },
            {
              name: 'kube-flannel',
              image: imageOf(rke, 'flannel'),
              command: ['/opt/bin/flanneld'],
              args: ['--ip-masq', '--kube-subnet-mgr', ...(iface === '' ? [] : [`--iface=${iface}`])],
              env: [
                { name: 'POD_NAME', valueFrom: { fieldRef: { fieldPath: 'metadata.name' } } },
                { name: 'POD_NAMESPACE', valueFrom: { fieldRef: { fieldPath: 'metadata.namespace' } } },
                { name: 'EVENT_QUEUE_DEPTH', value: '5000' },
              ],
              resources: { requests: { cpu: '100m', memory: '50Mi' } },
              securityContext: {
                privileged: false,
                capabilities: { add: ['NET_ADMIN', 'NET_RAW'] },
                // RKE's SELinux policy for the hosts (rancher-selinux) has this type.
                seLinuxOptions: { type: 'rke_network_t' },
              },
              volumeMounts: [
                { name: 'run', mountPath: '/run/flannel' },
                { name: 'flannel-cfg', mountPath: '/etc/kube-flannel/' },
                { name: 'xtables-lock', mountPath: '/run/xtables.lock' },
              ],
            },
          ],
          volumes: [
            { name: 'run', hostPath: { path: '/run/flannel' } },
            { name: 'host-cni-bin', hostPath: { path: '/opt/cni/bin' } },
            { name: 'cni', hostPath: { path: '/etc/cni/net.d' } },
            { name: 'flannel-cfg', configMap: { name: files } },
            { name: 'xtables-lock', hostPath: { path: '/run/xtables.lock', type: 'FileOrCreate' } },
          ],
        },
      },
    },
  };
}

function json(value: unknown): string {
  return `${JSON.stringify(value, null, 2)}\n`;
}

function hash(config: Readonly<Record<string, string>>): string {
  return createHash('sha256').update(JSON.stringify(config)).digest('hex');
}
