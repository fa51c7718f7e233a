/**
 * A lab's own PKI, as a new cluster gets it. Only the keys are fewer: one for all servers and one for all clients,
 * because each takes a tenth of a second of a processor or more to make, and here they protect nothing.
 */
import type { KeyObject } from 'node:crypto';
import type { Bundle } from '../certificates/bundle.ts';
import { caNames, nodeCertificateName } from '../certificates/cluster.ts';
import { newBundle, systemSource } from '../certificates/issue.ts';
import { isEtcdMember, type LabNode } from './surface.ts';

export interface BundleOptions {
  /** All of them controlplane, those that are members etcd as well. */
  readonly nodes: readonly LabNode[];
  readonly clusterName: string;
}

/** The certificate of an etcd member, by its address. */
export function etcdCertificateName(address: string): string {
  return nodeCertificateName('kube-etcd', { address, internalAddress: address });
}

/** A whole bundle for a new cluster, the lab's alone: no CA but its own knows it. */
export async function createBundle({ nodes, clusterName }: BundleOptions): Promise<Bundle> {
  const keys = new Map<string, Promise<KeyObject>>();
  const newKey = (name: string) => {
    const shared = keyName(name);
    const key = keys.get(shared) ?? systemSource.newKey(shared);
    keys.set(shared, key);
    return key;
  };
  const cluster = {
    name: clusterName,
    nodes: nodes.map((node) => ({
      ...{ address: node.address, internalAddress: node.address, hostname: node.name },
      roles: isEtcdMember(node) ? ['controlplane', 'etcd'] : ['controlplane'],
    })),
    sans: [],
    serviceRange: '10.43.0.0/16',
    domain: 'cluster.local',
    kubeletServes: false,
    kubeconfigPath: './kube_config_cluster.yml',
  };
  return await newBundle(cluster, { ...systemSource, newKey });
}

function keyName(name: string): string {
  if (caNames.some((ca) => ca === name)) return name;
  return name === 'kube-apiserver' || name.startsWith('kube-etcd-') ? 'servers' : 'clients';
}
