/**
 * A lab's own PKI, as a new cluster gets it. Only the keys are fewer: one for all servers and one for all clients,
 * because each takes a tenth of a second of a processor or more to make, and here they protect nothing.
 */
import { createPublicKey, type KeyObject } from 'node:crypto';
import type { Bundle } from '../certificates/bundle.ts';
import { caNames, nodeCertificateName } from '../certificates/cluster.ts';
import { newBundle, systemSource } from '../certificates/issue.ts';
import { certificatePem, keyPem, selfIssuer } from '../certificates/x509.ts';
import { rolesOf, type LabNode } from './surface.ts';

export interface BundleOptions {
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
      roles: rolesOf(node),
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

let own: Promise<{ readonly cert: string; readonly key: string }> | undefined;

/** A server's that no CA has signed; one for all, made when it is first asked for. */
export function selfSigned(): NonNullable<typeof own> {
  own ??= systemSource.newKey('servers').then((key) => {
    const subject = { commonName: 'localhost' };
    const now = systemSource.now();
    const cert = certificatePem({
      ...{ subject, publicKey: createPublicKey(key), issuer: selfIssuer(subject, key), serial: 1n },
      ...{ notBefore: now, notAfter: new Date(now.getTime() + 365 * 24 * 3_600_000) },
      ...{ ca: false, usages: ['server'], names: { dns: ['localhost'], ip: [] } },
    });
    return { cert, key: keyPem(key) };
  });
  return own;
}
