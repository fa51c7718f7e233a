/** The objects that a cluster has by itself, and those that its kube-apiservers keep up to date about themselves. */
import { createHash } from 'node:crypto';
import type { Apiserver, Loaded } from './apiserver.ts';
import type { EtcdStore } from './etcd-store.ts';
import {
  apiservices,
  apiVersionOf,
  definitions,
  endpoints,
  etcdKeyOf,
  kinds,
  leases,
  namespaces,
  nodes as nodeKind,
  serialise,
  widgets,
  type Kind,
  type Metadata,
} from './kinds.ts';
import type { LabNode } from './surface.ts';

const renewEvery = 10_000;
/** An address stays in Endpoints for so long after its server was last seen (the TTL of kube-apiserver's masterleases). */
const endpointTtl = 15_000;

interface Serving {
  readonly node: string;
  readonly server: Apiserver;
}

export class ClusterObjects {
  readonly #etcd: EtcdStore;
  readonly #nodes: readonly LabNode[];
  readonly #renewed = new Map<string, number>();
  readonly #seen = new Map<string, number>();
  #addresses = '';

  constructor(etcd: EtcdStore, nodes: readonly LabNode[]) {
    this.#etcd = etcd;
    this.#nodes = nodes;
  }

  /** What is there before anyone uses the cluster. */
  found(loaded: Loaded, now: Date): void {
    const put = (kind: Kind, name: string, fields: Record<string, unknown> = {}) =>
      this.#put(loaded, kind, '', name, {}, fields, now);
    for (const name of ['default', 'kube-node-lease', 'kube-public', 'kube-system']) put(namespaces, name);
    for (const { name, address } of this.#nodes) {
      put(nodeKind, name, { status: { addresses: [{ type: 'InternalIP', address }] } });
    }
    put(definitions, widgets.resource, { spec: { group: widgets.group, scope: 'Namespaced' } });
    for (const group of new Set(kinds.map((kind) => kind.group))) {
      put(apiservices, `v1.${group}`, { spec: { group, version: 'v1' } });
    }
  }

  /** Identity Leases are renewed every 10 s; Endpoints default/kubernetes hold the addresses that serve. */
  advance(serving: readonly Serving[], now: Date): void {
    const time = now.getTime();
    for (const { node, server } of serving) {
      this.#seen.set(node, time);
      if (time - (this.#renewed.get(node) ?? -Infinity) < renewEvery) continue;
      this.#renewed.set(node, time);
      this.#renew(node, server.loaded, now);
    }
    const [first] = serving;
    if (first === undefined) return;
    const listed = this.#nodes.filter(({ name }) => time - (this.#seen.get(name) ?? -Infinity) < endpointTtl);
    const addresses = listed.map(({ address }) => ({ ip: address }));
    const text = `${this.#etcd.clusterId} ${JSON.stringify(addresses)}`;
    if (text === this.#addresses) return;
    this.#addresses = text;
    const subsets = [{ addresses, ports: [{ name: 'https', port: 6443, protocol: 'TCP' }] }];
    this.#put(first.server.loaded, endpoints, 'default', 'kubernetes', {}, { subsets }, now);
  }

  #renew(node: string, loaded: Loaded, now: Date): void {
    const hash = createHash('sha256').update(node).digest('hex').slice(0, 26);
    const labels = {
      'apiserver.kubernetes.io/identity': 'kube-apiserver',
      'kubernetes.io/hostname': node,
    };
    const renewTime = now.toISOString().replace('Z', '000Z');
    const spec = { holderIdentity: `apiserver-${hash}`, leaseDurationSeconds: 3_600, renewTime };
    this.#put(loaded, leases, 'kube-system', `apiserver-${hash}`, labels, { spec }, now);
  }

  #put(
    loaded: Loaded,
    kind: Kind,
    namespace: string,
    name: string,
    labels: Record<string, string>,
    fields: Record<string, unknown>,
    now: Date,
  ): void {
    const key = etcdKeyOf(kind, namespace, name);
    const metadata: Metadata = {
      name,
      ...(namespace === '' ? {} : { namespace }),
      uid: uidOf(key),
      creationTimestamp: now.toISOString().replace(/\.\d+Z/, 'Z'),
      ...(Object.keys(labels).length === 0 ? {} : { labels }),
    };
    const object = { apiVersion: apiVersionOf(kind), kind: kind.kind, metadata, ...fields };
    this.#etcd.put(key, loaded.write(kind, serialise(kind, object), key));
  }
}

/** The same at each renewal. */
function uidOf(key: string): string {
  const hex = createHash('sha256').update(key).digest('hex');
  return [hex.slice(0, 8), hex.slice(8, 12), hex.slice(12, 16), hex.slice(16, 20), hex.slice(20, 32)].join(
    '-',
  );
}
