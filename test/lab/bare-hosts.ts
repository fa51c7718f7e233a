/** What an operator has in hand before the first `up`: cluster.yml. And afterwards: the certificates in the state. */
import { readFileSync, statSync } from 'node:fs';
import { writeFile } from 'node:fs/promises';
import { dump } from 'js-yaml';
import type { LabOptions, Role } from './lab.ts';
import { addressOf, names } from './real-hosts.ts';
import { loneEtcd } from './rke-cluster.ts';

const everything: readonly Role[] = ['controlplane', 'etcd', 'worker'];

export function rolesOf({ hosts = 1, roles = [] }: LabOptions): ReadonlyMap<string, readonly Role[]> {
  return new Map(names.slice(0, hosts).map((name, index) => [name, roles[index] ?? everything]));
}

export async function writeClusterYml(path: string, options: LabOptions, sshKey: string): Promise<void> {
  const roles = rolesOf(options);
  const alone = [...roles.values()].filter((each) => each.includes('etcd')).length === 1;
  const network = options.network ?? 'none';
  const pods = network !== 'none';
  const yaml = {
    nodes: Array.from(roles, ([name, role]) => ({
      address: addressOf(name),
      user: 'root',
      role,
      hostname_override: name,
      ssh_key_path: sshKey,
    })),
    kubernetes_version: 'v1.30.5-rancher1-1',
    network: { plugin: network },
    ingress: { provider: 'none' },
    ...(!pods && { dns: { provider: 'none' }, monitoring: { provider: 'none' } }),
    ignore_docker_version: true,
    enable_cri_dockerd: true,
    services: {
      etcd: { snapshot: false, ...(alone && { extra_args: loneEtcd }) },
      ...(options.encryption !== 'off' && { 'kube-api': { secrets_encryption_config: { enabled: true } } }),
      // Not every machine lets its own limits be changed.
      kubeproxy: { extra_args: { 'conntrack-max-per-core': '0' } },
    },
  };
  await writeFile(path, dump(yaml));
}

/** How the lab's user and its etcd client are known to the cluster. */
export interface Credentials {
  readonly ca: string;
  readonly admin: { readonly cert: string; readonly key: string };
  readonly node: { readonly cert: string; readonly key: string };
}

/** Those of the state file, read again when it has changed. Throws while there are none. */
export function credentialsIn(state: string): () => Credentials {
  let read: { readonly at: number; readonly credentials: Credentials } | undefined;
  return () => {
    const at = statSync(state).mtimeMs;
    if (read?.at === at) return read.credentials;
    const { currentState, desiredState } = JSON.parse(readFileSync(state, 'utf8')) as Record<
      'currentState' | 'desiredState',
      { certificatesBundle?: Record<string, { certificatePEM: string; keyPEM: string }> } | undefined
    >;
    const bundle = currentState?.certificatesBundle ?? desiredState?.certificatesBundle ?? {};
    const certificate = (name: string) => {
      const found = bundle[name];
      if (found === undefined) throw new Error(`the state has no certificate ${name}`);
      return { cert: found.certificatePEM, key: found.keyPEM };
    };
    const credentials = {
      ca: certificate('kube-ca').cert,
      admin: certificate('kube-admin'),
      node: certificate('kube-node'),
    };
    read = { at, credentials };
    return credentials;
  };
}
