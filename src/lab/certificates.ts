/**
 * A lab's own PKI, as RKE 1.6 makes it: the same names, subjects, usages and paths (rke-compat, section 6), RSA 2048,
 * ten years. Only the keys are fewer: one for all servers and one for all clients, because each takes a tenth of a second
 * of a processor or more to make, and here they protect nothing.
 */
import { generateKeyPair, randomBytes, type KeyObject } from 'node:crypto';
import { isIP } from 'node:net';
import { promisify } from 'node:util';
import { isEtcdMember, type LabNode } from './surface.ts';
import { certificatePem, type Subject } from './x509.ts';

/** An element of `certificatesBundle` in the state: all twelve fields, in RKE's order. */
export interface BundleElement {
  readonly certificatePEM: string;
  readonly keyPEM: string;
  /** A kubeconfig's text; empty where RKE makes none. */
  readonly config: string;
  readonly name: string;
  readonly commonName: string;
  readonly ouName: string;
  readonly envName: string;
  readonly path: string;
  readonly keyEnvName: string;
  readonly keyPath: string;
  readonly configEnvName: string;
  readonly configPath: string;
}

export type Bundle = Readonly<Record<string, BundleElement>>;

export interface BundleOptions {
  /** Controlplane and etcd nodes: the servers' certificates hold all of them. */
  readonly nodes: readonly LabNode[];
  readonly clusterName: string;
  /** What the admin's kubeconfig names, `https://…:6443`. */
  readonly server: string;
  /** As `configPath` of kube-admin: `./kube_config_cluster.yml`. */
  readonly kubeconfig: string;
}

type Usage = 'client' | 'server';

interface Leaf {
  readonly name: string;
  readonly ca: 'kube-ca' | 'kube-apiserver-requestheader-ca';
  readonly subject: Subject;
  readonly usages: readonly Usage[];
  readonly commonName?: string;
  readonly ouName?: string;
  /** A server's: it holds the nodes' names and addresses. */
  readonly names?: boolean;
  readonly kubeconfig?: boolean;
}

interface Keys {
  readonly publicKey: KeyObject;
  readonly privateKey: KeyObject;
}

const generate = promisify(generateKeyPair);

const folder = '/etc/kubernetes/ssl';
const requestHeaderCa = 'kube-apiserver-requestheader-ca';

/** The certificate of an etcd member, by its address: `kube-etcd-198-51-100-11`. */
export function etcdCertificateName(address: string): string {
  return `kube-etcd-${address.toLowerCase().replaceAll('.', '-')}`;
}

/** A whole bundle for a new cluster, the lab's alone: no CA but its own knows it. */
export async function createBundle(options: BundleOptions): Promise<Bundle> {
  const leaves = leavesOf(options.nodes);
  const keyNames = ['kube-ca', requestHeaderCa, 'servers', 'clients'];
  const keys = new Map(
    await Promise.all(
      keyNames.map(async (name) => [name, await generate('rsa', { modulusLength: 2048 })] as const),
    ),
  );
  const keyOf = (name: string): Keys => {
    const found = keys.get(name);
    if (found === undefined) throw new Error(`no key was made for ${name}`);
    return found;
  };
  const now = Math.floor(Date.now() / 1000) * 1000;
  const validity = { notBefore: new Date(now), notAfter: new Date(now + 3650 * 24 * 3600_000) };

  const authority = (name: string): [string, BundleElement] => {
    const own = keyOf(name);
    const certificatePEM = certificatePem({
      ...validity,
      subject: { commonName: name },
      publicKey: own.publicKey,
      issuer: { commonName: name },
      issuerKeys: own,
      serial: 0n,
      ca: true,
      usages: [],
      dns: [],
      ip: [],
    });
    const more = name === requestHeaderCa ? { kubeconfig: true } : {};
    return [name, element(name, { certificatePEM, keyPEM: keyPem(own) }, more)];
  };

  const names = serverNames(options.nodes);
  const signed = (leaf: Leaf): [string, BundleElement] => {
    const own = keyOf(leaf.names === true ? 'servers' : 'clients');
    const certificatePEM = certificatePem({
      ...validity,
      subject: leaf.subject,
      publicKey: own.publicKey,
      issuer: { commonName: leaf.ca },
      issuerKeys: keyOf(leaf.ca),
      serial: randomBytes(8).readBigUInt64BE() >> 1n,
      ca: false,
      usages: leaf.usages,
      ...(leaf.names === true ? names : { dns: [], ip: [] }),
    });
    return [leaf.name, element(leaf.name, { certificatePEM, keyPEM: keyPem(own) }, leaf)];
  };

  const made = new Map([authority('kube-ca'), authority(requestHeaderCa), ...leaves.map(signed)]);
  const server = made.get('kube-apiserver');
  const ca = made.get('kube-ca');
  const admin = made.get('kube-admin');
  if (server === undefined || ca === undefined || admin === undefined)
    throw new Error('the bundle is incomplete');
  // On a fresh cluster RKE signs tokens with kube-apiserver's own pair.
  made.set(
    'kube-service-account-token',
    element('kube-service-account-token', server, { commonName: 'kube-service-account-token' }),
  );
  made.set('kube-admin', {
    ...admin,
    config: adminKubeconfig(admin, ca, options),
    configEnvName: 'KUBECFG_KUBE_ADMIN',
    configPath: options.kubeconfig,
  });
  // Go's encoder sorts the keys of a map.
  return Object.fromEntries([...made].sort(([a], [b]) => (a < b ? -1 : 1)));
}

function leavesOf(nodes: readonly LabNode[]): Leaf[] {
  const component = (name: string): Leaf => ({
    name,
    ca: 'kube-ca',
    subject: { commonName: `system:${name}` },
    usages: ['client'],
    kubeconfig: true,
  });
  return [
    {
      name: 'kube-apiserver',
      ca: 'kube-ca',
      subject: { commonName: 'kube-apiserver' },
      usages: ['client', 'server'],
      names: true,
    },
    component('kube-controller-manager'),
    component('kube-scheduler'),
    component('kube-proxy'),
    {
      ...component('kube-node'),
      subject: { commonName: 'system:node', organisation: 'system:nodes' },
      commonName: 'system:node',
      ouName: 'system:nodes',
    },
    {
      name: 'kube-admin',
      ca: 'kube-ca',
      subject: { commonName: 'kube-admin', organisation: 'system:masters' },
      usages: ['client'],
      commonName: 'kube-admin',
      ouName: 'system:masters',
    },
    {
      name: 'kube-apiserver-proxy-client',
      ca: requestHeaderCa,
      subject: { commonName: 'kube-apiserver-proxy-client' },
      usages: ['client', 'server'],
      kubeconfig: true,
    },
    ...nodes.filter(isEtcdMember).map(({ address }): Leaf => {
      const name = etcdCertificateName(address);
      return {
        name,
        ca: 'kube-ca',
        subject: { commonName: 'kube-etcd' },
        usages: ['client', 'server'],
        names: true,
      };
    }),
  ];
}

/** RKE's list for kube-apiserver and etcd: the nodes, this host, and the first address of the service network. */
function serverNames(nodes: readonly LabNode[]) {
  const own = nodes.flatMap(({ name, address }) => (name === address ? [name] : [name, address]));
  const [dns, ip] = [own.filter((name) => isIP(name) === 0), own.filter((name) => isIP(name) !== 0)];
  return {
    dns: [
      ...dns,
      'localhost',
      'kubernetes',
      'kubernetes.default',
      'kubernetes.default.svc',
      'kubernetes.default.svc.cluster.local',
    ],
    ip: [...ip, '127.0.0.1', '10.43.0.1'],
  };
}

function element(
  name: string,
  { certificatePEM, keyPEM }: Pick<BundleElement, 'certificatePEM' | 'keyPEM'>,
  more: { readonly commonName?: string; readonly ouName?: string; readonly kubeconfig?: boolean },
): BundleElement {
  const envName = name.toUpperCase().replaceAll('-', '_');
  const kubeconfig = more.kubeconfig === true;
  return {
    certificatePEM,
    keyPEM,
    config: kubeconfig ? componentKubeconfig(name) : '',
    name,
    commonName: more.commonName ?? `system:${name}`,
    ouName: more.ouName ?? '',
    envName,
    path: `${folder}/${name}.pem`,
    keyEnvName: `${envName}_KEY`,
    keyPath: `${folder}/${name}-key.pem`,
    configEnvName: kubeconfig ? `KUBECFG_${envName}` : '',
    configPath: kubeconfig ? `${folder}/kubecfg-${name}.yaml` : '',
  };
}

function keyPem({ privateKey }: Keys): string {
  return privateKey.export({ format: 'pem', type: 'pkcs1' }).toString();
}

function componentKubeconfig(name: string): string {
  return kubeconfig('local', `${name}-local`, 'https://127.0.0.1:6443', {
    ca: `certificate-authority: ${folder}/kube-ca.pem`,
    cert: `client-certificate: ${folder}/${name}.pem`,
    key: `client-key: ${folder}/${name}-key.pem`,
  });
}

function adminKubeconfig(admin: BundleElement, ca: BundleElement, options: BundleOptions): string {
  const base64 = (pem: string) => Buffer.from(pem).toString('base64');
  return kubeconfig(options.clusterName, `kube-admin-${options.clusterName}`, options.server, {
    ca: `certificate-authority-data: ${base64(ca.certificatePEM)}`,
    cert: `client-certificate-data: ${base64(admin.certificatePEM)}`,
    key: `client-key-data: ${base64(admin.keyPEM)}`,
  });
}

function kubeconfig(
  cluster: string,
  user: string,
  server: string,
  lines: { readonly ca: string; readonly cert: string; readonly key: string },
): string {
  return `apiVersion: v1
kind: Config
clusters:
- cluster:
    api-version: v1
    ${lines.ca}
    server: "${server}"
  name: "${cluster}"
contexts:
- context:
    cluster: "${cluster}"
    user: "${user}"
  name: "${cluster}"
current-context: "${cluster}"
users:
- name: "${user}"
  user:
    ${lines.cert}
    ${lines.key}`;
}
