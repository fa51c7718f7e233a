/** Which files a node has for its services, and which services read them. */
import { createHash } from 'node:crypto';
import type { Bundle, BundleElement } from '../certificates/bundle.ts';
import { nodeCertificateName } from '../certificates/cluster.ts';
import type { RkeNode } from '../config/rke-config.ts';
import type { Delivered } from '../ports.ts';
import type { ClusterWish, DockerHost } from '../services/cluster.ts';
import type { ServiceName } from '../services/container.ts';
import { admissionPath, auditPolicyPath, cloudConfigPath, webhookPath } from '../services/paths.ts';
import { filesOf } from '../services/services.ts';

/** Certificates of controlplane nodes beside those that every node has. */
const ofControlplane = [
  'kube-apiserver',
  'kube-apiserver-proxy-client',
  'kube-apiserver-requestheader-ca',
  'kube-controller-manager',
  'kube-etcd-client',
  'kube-etcd-client-ca',
  'kube-scheduler',
  'kube-service-account-token',
];

/** As RKE 1.6 deals them out: the CA's key is where its certificates are needed to sign, the admin's nowhere. */
export function certificatesOn(node: RkeNode, bundle: Bundle): Delivered[] {
  const has = (role: string) => node.role.includes(role);
  return Object.values(bundle).flatMap((element) => {
    const { name } = element;
    if (name === 'kube-ca') return partsOf(element, has('controlplane'));
    const everywhere = ['kube-node', 'kube-proxy'].includes(name) || name.startsWith('kube-kubelet-');
    const ofEtcd = /^kube-etcd-(?!client(-ca)?$)/.test(name);
    const wanted =
      everywhere || (ofEtcd ? has('etcd') : has('controlplane') && ofControlplane.includes(name));
    return wanted ? partsOf(element, true) : [];
  });
}

function partsOf(element: BundleElement, withKey: boolean): Delivered[] {
  const { certificatePEM, keyPEM, config, path, keyPath, configPath } = element;
  return [
    { path, text: certificatePEM },
    ...(withKey ? [{ path: keyPath, text: keyPEM }] : []),
    { path: configPath, text: config },
  ].filter((each) => each.text !== '' && each.path !== '');
}

/** All but the provider file, which belongs to the encryption of secrets. Throws UNSUPPORTED. */
export function filesOn(node: RkeNode, host: DockerHost, wish: ClusterWish, bundle: Bundle): Delivered[] {
  const { uid = 0, gid = 0 } = wish.rke.services.etcd;
  const owner = uid !== 0 && gid !== 0 ? uid : undefined;
  return [...certificatesOn(node, bundle), ...filesOf(node, host, wish)].map((file) => {
    if (owner === undefined) return file;
    // etcd runs as a user of its own, and reads these.
    if (/\/kube-etcd-[^/]*\.pem$/.test(file.path)) return { ...file, uid: owner };
    return file.path.endsWith('/kube-ca.pem') ? { ...file, mode: 0o644 } : file;
  });
}

/** Whether what lies there means the same: RKE's own way of writing adds newlines at the end, or leaves them out. */
export function isSameFile(text: string, sha256: string | undefined): boolean {
  const bare = text.replace(/\n+$/, '');
  return (
    sha256 !== undefined && [text, `${text}\n`, bare, `${bare}\n`].some((each) => hashOf(each) === sha256)
  );
}

/** As HostFiles.list has it. */
export function hashOf(text: string): string {
  return createHash('sha256').update(text).digest('hex');
}

const readers: readonly (readonly [file: RegExp, services: readonly ServiceName[]])[] = [
  [
    /^kube-ca\.pem$/,
    ['etcd', 'kube-apiserver', 'kube-controller-manager', 'kube-scheduler', 'kubelet', 'kube-proxy'],
  ],
  [/^kube-ca-key\.pem$/, ['kube-controller-manager']],
  [/^kube-apiserver(-proxy-client|-requestheader-ca)?(-key)?\.pem$/, ['kube-apiserver']],
  [/^kube-etcd-client/, ['kube-apiserver']],
  [/^kube-service-account-token/, ['kube-apiserver', 'kube-controller-manager']],
  [/^(kubecfg-)?kube-controller-manager/, ['kube-controller-manager']],
  [/^(kubecfg-)?kube-scheduler/, ['kube-scheduler']],
  [/^(kubecfg-)?kube-proxy(-key)?\.(pem|yaml)$/, ['kube-proxy']],
  // kube-apiserver shows it to etcd.
  [/^kube-node/, ['kube-apiserver', 'kubelet']],
  [/^kubecfg-kube-node/, ['kubelet']],
  [/^kube-kubelet-/, ['kubelet']],
];

/** Of the services of this node, those that read the file at their start, so that another content wants a restart. */
export function readersOf(
  path: string,
  node: Pick<RkeNode, 'address' | 'internalAddress'>,
): readonly ServiceName[] {
  const name = path.slice(path.lastIndexOf('/') + 1);
  if ([admissionPath, auditPolicyPath, webhookPath].includes(path)) return ['kube-apiserver'];
  if (path === cloudConfigPath) return ['kube-apiserver', 'kube-controller-manager', 'kubelet'];
  // Those of other members lie there, and nobody reads them.
  const own = nodeCertificateName('kube-etcd', node);
  if (name === `${own}.pem` || name === `${own}-key.pem`) return ['etcd'];
  return readers.find(([file]) => file.test(name))?.[1] ?? [];
}
