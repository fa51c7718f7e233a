/** The objects that a cluster has by itself, and those that its own processes keep up to date about themselves. */
import { createHash } from 'node:crypto';
import { rbac } from '../addons/rbac.ts';
import type { RkeConfig } from '../config/rke-config.ts';
import type { Manifest } from '../kube/manifest.ts';
import { marksOf } from '../services/node.ts';
import type { Apiserver, Loaded } from './apiserver.ts';
import type { EtcdStore } from './etcd-store.ts';
import {
  apiservices,
  definitions,
  endpoints,
  kinds,
  leases,
  namespaces,
  nodes as nodeKind,
  roleBindings,
  widgets,
  type Kind,
} from './kinds.ts';
import { nodeObject, setReady } from './kubelet.ts';
import { putObject, readObject } from './own-objects.ts';
import type { LabNode } from './surface.ts';

const renewEvery = 10_000;
/** An address stays in Endpoints for so long after its server was last seen (the TTL of kube-apiserver's masterleases). */
const endpointTtl = 15_000;
/** kube-controller-manager's --node-monitor-grace-period. */
const nodeGrace = 40_000;

interface Serving {
  readonly node: string;
  readonly server: Apiserver;
}

export class ClusterObjects {
  readonly #nodes: readonly LabNode[];
  readonly #renewed = new Map<string, number>();
  readonly #seen = new Map<string, number>();
  /** Where all is that a cluster begins with. */
  readonly #founded = new WeakSet<EtcdStore>();
  /** When each kubelet was last seen; one that was given up is not looked at again before it is back. */
  readonly #kubelets = new Map<string, number>();
  #addresses = '';

  constructor(nodes: readonly LabNode[]) {
    this.#nodes = nodes;
  }

  /** What is there before anyone uses the cluster. */
  found(etcd: EtcdStore, loaded: Loaded, now: Date): void {
    if (this.#founded.has(etcd)) return;
    this.#founded.add(etcd);
    const put = (kind: Kind, name: string, fields: Record<string, unknown> = {}) =>
      putObject(etcd, loaded, { kind, namespace: '', name, fields }, now);
    for (const name of ['default', 'kube-node-lease', 'kube-public', 'kube-system']) put(namespaces, name);
    // Of nobody, until somebody says who.
    put(roleBindings, nodesBinding, { roleRef: roleOf(nodesBinding) });
    put(definitions, widgets.resource, { spec: { group: widgets.group, scope: 'Namespaced' } });
    for (const group of new Set(kinds.map((kind) => kind.group))) {
      put(apiservices, `v1.${group}`, { spec: { group, version: 'v1' } });
    }
  }

  /** What RKE has left: Node objects, RBAC, and what it keeps of the addons that it has deployed. */
  foundByRke(etcd: EtcdStore, loaded: Loaded, config: RkeConfig, version: string, now: Date): void {
    const made = [...(rbac(config)?.manifests ?? []).map(({ object }) => object), ...addonsOf(config)];
    for (const object of made) {
      const { kind: named, metadata, ...fields } = object;
      const kind = kinds.find((each) => each.kind === named);
      if (kind === undefined) continue;
      const { name, namespace = '' } = metadata;
      putObject(etcd, loaded, { kind, namespace, name, fields }, now);
    }
    for (const node of config.nodes) {
      const { labels, annotations, taints } = marksOf(node);
      const { metadata, spec, status } = nodeObject({
        ...{ name: node.hostnameOverride, address: node.internalAddress, version, ready: true, now },
        taints,
      });
      const marked = {
        labels: { ...metadata.labels, ...labels },
        annotations: { ...metadata.annotations, ...annotations },
      };
      const { name } = metadata;
      putObject(
        etcd,
        loaded,
        { kind: nodeKind, namespace: '', name, ...marked, fields: { spec, status } },
        now,
      );
    }
  }

  /**
   * Identity Leases are renewed every 10 s; Endpoints default/kubernetes hold the addresses that serve; nodes whose
   * kubelets (by the nodes' names) do not run any more are not ready.
   */
  advance(all: readonly Serving[], kubelets: readonly string[], now: Date): void {
    const time = now.getTime();
    for (const name of kubelets) this.#kubelets.set(name, time);
    const serving = all.flatMap(({ node, server }) => {
      const { etcd } = server;
      return etcd === undefined ? [] : [{ node, server, etcd }];
    });
    const [first] = serving;
    if (first === undefined) return;
    this.found(first.etcd, first.server.loaded, now);
    for (const [name, seen] of this.#kubelets) {
      if (time - seen < nodeGrace) continue;
      const way = { etcd: first.etcd, loaded: first.server.loaded };
      const node = readObject(way.etcd, way.loaded, nodeKind, '', name);
      if (node !== undefined) setReady(way, node, false, 'NodeStatusUnknown', now);
      this.#kubelets.delete(name);
    }
    for (const { node, server, etcd } of serving) {
      this.#seen.set(node, time);
      if (time - (this.#renewed.get(node) ?? -Infinity) < renewEvery) continue;
      this.#renewed.set(node, time);
      renew(node, etcd, server.loaded, now);
    }
    const listed = this.#nodes.filter(({ name }) => time - (this.#seen.get(name) ?? -Infinity) < endpointTtl);
    const addresses = listed.map(({ address }) => ({ ip: address }));
    const text = `${first.etcd.clusterId} ${JSON.stringify(addresses)}`;
    if (text === this.#addresses) return;
    this.#addresses = text;
    const subsets = [{ addresses, ports: [{ name: 'https', port: 6443, protocol: 'TCP' }] }];
    const object = { kind: endpoints, namespace: 'default', name: 'kubernetes', fields: { subsets } };
    putObject(first.etcd, first.server.loaded, object, now);
  }
}

/** Of Kubernetes' own: what kubelets may do. */
const nodesBinding = 'system:node';
const roleOf = (name: string) => ({
  apiGroup: 'rbac.authorization.k8s.io',
  kind: 'ClusterRole',
  name,
});

/** RKE's ConfigMaps of addons (their manifests are of no matter here), and the network plugin's DaemonSet. */
function addonsOf(config: RkeConfig): Manifest['object'][] {
  const { network, dns, monitoring, ingress } = config as unknown as Record<
    'network' | 'dns' | 'monitoring' | 'ingress',
    { readonly plugin?: string; readonly provider?: string } | undefined
  >;
  const isOn = (name = 'none') => name !== 'none';
  const plugin = network?.plugin ?? 'none';
  const kept = [
    ...(isOn(plugin) ? ['rke-network-plugin'] : []),
    ...(isOn(dns?.provider) ? ['rke-coredns-addon'] : []),
    ...(isOn(monitoring?.provider) ? ['rke-metrics-addon'] : []),
    ...(isOn(ingress?.provider) ? ['rke-ingress-controller'] : []),
  ];
  const within = (kind: string, name: string, more: object) => ({
    ...{ apiVersion: '', kind, metadata: { name, namespace: 'kube-system' } },
    ...more,
  });
  return [
    ...kept.map((name) => within('ConfigMap', name, { data: { [name]: '' } })),
    ...(isOn(plugin) ? [within('DaemonSet', pluginSets[plugin] ?? plugin, { spec: {} })] : []),
  ];
}

const pluginSets: Readonly<Record<string, string>> = {
  flannel: 'kube-flannel',
  calico: 'calico-node',
  weave: 'weave-net',
};

function renew(node: string, etcd: EtcdStore, loaded: Loaded, now: Date): void {
  const hash = createHash('sha256').update(node).digest('hex').slice(0, 26);
  const labels = {
    'apiserver.kubernetes.io/identity': 'kube-apiserver',
    'kubernetes.io/hostname': node,
  };
  const renewTime = now.toISOString().replace('Z', '000Z');
  const spec = { holderIdentity: `apiserver-${hash}`, leaseDurationSeconds: 3_600, renewTime };
  const object = {
    kind: leases,
    namespace: 'kube-system',
    name: `apiserver-${hash}`,
    labels,
    fields: { spec },
  };
  putObject(etcd, loaded, object, now);
}
