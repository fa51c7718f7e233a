/** Which certificates a cluster needs (names, subjects, usages and alternative names as RKE 1.6 has them). */
import { isIP, isIPv4 } from 'node:net';
import { basename, dirname } from 'node:path';
import type { RkeConfig } from '../config/rke-config.ts';
import { TsrkeError } from '../errors.ts';
import { ipBytes, ipText } from './der.ts';
import type { AltNames, Subject, Usage } from './x509.ts';

export type CaName = 'kube-ca' | 'kube-apiserver-requestheader-ca';

export interface CertifiedNode {
  readonly address: string;
  readonly internalAddress: string;
  /** In lower case; the address where nothing else was said. */
  readonly hostname: string;
  readonly roles: readonly string[];
}

/** What of a cluster its certificates depend on. */
export interface CertifiedCluster {
  readonly name: string;
  readonly nodes: readonly CertifiedNode[];
  /** `authentication.sans`. */
  readonly sans: readonly string[];
  /** `services.kube-api.service_cluster_ip_range`. */
  readonly serviceRange: string;
  readonly domain: string;
  /** `services.kubelet.generate_serving_certificate`. */
  readonly kubeletServes: boolean;
  /** Of an etcd outside the cluster: PEM texts. */
  readonly externalEtcd?: { readonly ca: string; readonly cert: string; readonly key: string };
  /** As RKE writes it: `./kube_config_cluster.yml`. */
  readonly kubeconfigPath: string;
}

/** A certificate that a CA of the cluster signs. */
export interface Leaf {
  readonly name: string;
  readonly ca: CaName;
  readonly subject: Subject;
  readonly usages: readonly Usage[];
  readonly names: AltNames;
  /** Those of RKE's element, where they are not `system:<name>` and nothing. */
  readonly commonName?: string;
  readonly ouName?: string;
}

export const caNames: readonly CaName[] = ['kube-ca', 'kube-apiserver-requestheader-ca'];
export const tokenName = 'kube-service-account-token';

const nowhere: AltNames = { dns: [], ip: [] };

/** `configPath`: that of cluster.yml, as it was given. Throws CONFIG_INVALID. */
export function certifiedClusterOf(rke: RkeConfig, configPath: string): CertifiedCluster {
  const { kubeApi, kubelet, etcd } = rke.services;
  const authentication = (rke['authentication'] ?? {}) as { readonly sans?: readonly unknown[] };
  const text = (value: unknown) => (typeof value === 'string' ? value : '');
  const external = Array.isArray(etcd['externalUrls']) && etcd['externalUrls'].length > 0;
  return {
    name: rke.clusterName,
    nodes: rke.nodes.map(({ address, internalAddress, hostnameOverride, role }) => ({
      ...{ address, internalAddress },
      hostname: hostnameOverride,
      roles: role,
    })),
    sans: (authentication.sans ?? []).map(String),
    serviceRange: text(kubeApi['serviceClusterIpRange']),
    domain: text(kubelet['clusterDomain']),
    kubeletServes: kubelet['generateServingCertificate'] === true,
    ...(external && {
      externalEtcd: { ca: text(etcd['caCert']), cert: text(etcd['cert']), key: text(etcd['key']) },
    }),
    kubeconfigPath: `${dirname(configPath)}/kube_config_${basename(configPath)}`,
  };
}

/** `kube-etcd-198-51-100-11`: of the internal address, where there is one. */
export function nodeCertificateName(
  what: 'kube-etcd' | 'kube-kubelet',
  { address, internalAddress }: Pick<CertifiedNode, 'address' | 'internalAddress'>,
): string {
  const own = internalAddress === '' ? address : internalAddress;
  return `${what}-${own.toLowerCase().replaceAll('.', '-')}`;
}

/** In the order in which RKE makes them. Throws CONFIG_INVALID. */
export function leavesOf(cluster: CertifiedCluster): Leaf[] {
  const having = (role: string) => cluster.nodes.filter(({ roles }) => roles.includes(role));
  const [controlplane, etcd] = [having('controlplane'), having('etcd')];
  const both: readonly Usage[] = ['client', 'server'];
  const client: readonly Usage[] = ['client'];
  const component = (name: string): Leaf => ({
    ...{ name, ca: 'kube-ca', usages: client, names: nowhere },
    subject: { commonName: `system:${name}` },
  });
  const inGroup = (name: string, commonName: string, organisation: string): Leaf => ({
    ...{ name, ca: 'kube-ca', usages: client, names: nowhere },
    subject: { commonName, organisation },
    ...{ commonName, ouName: organisation },
  });
  const server = (name: string, commonName: string, names: AltNames): Leaf => ({
    ...{ name, ca: 'kube-ca', subject: { commonName }, usages: both, names },
  });
  const etcdNames = serverNames(cluster, etcd, []);
  return [
    server('kube-apiserver', 'kube-apiserver', serverNames(cluster, controlplane, cluster.sans)),
    component('kube-controller-manager'),
    component('kube-scheduler'),
    component('kube-proxy'),
    inGroup('kube-node', 'system:node', 'system:nodes'),
    inGroup('kube-admin', 'kube-admin', 'system:masters'),
    {
      ...server('kube-apiserver-proxy-client', 'kube-apiserver-proxy-client', nowhere),
      ca: 'kube-apiserver-requestheader-ca',
    },
    ...etcd.map((node) => server(nodeCertificateName('kube-etcd', node), 'kube-etcd', etcdNames)),
    ...(cluster.kubeletServes ? cluster.nodes : []).map((node) => {
      const name = nodeCertificateName('kube-kubelet', node);
      return server(name, name, ownNames(node));
    }),
  ];
}

/** The controlplane nodes' addresses, one of which the admin's kubeconfig leads to. */
export function adminAddresses({ nodes }: CertifiedCluster): string[] {
  return nodes.filter(({ roles }) => roles.includes('controlplane')).map(({ address }) => address);
}

/** Nodes, what the user adds, this host, the service network's first addresses, the names of Service `kubernetes`. */
function serverNames(
  { serviceRange, domain }: CertifiedCluster,
  nodes: readonly CertifiedNode[],
  sans: readonly string[],
): AltNames {
  const own = together([...nodes.map(ownNames), altNames(sans)]);
  const service = ['kubernetes', 'kubernetes.default', 'kubernetes.default.svc'];
  return {
    dns: [...own.dns, 'localhost', ...service, `kubernetes.default.svc.${domain}`],
    ip: [...own.ip, '127.0.0.1', ...serviceRange.split(',').map(firstOf)],
  };
}

/** RKE takes the host's name for a name, whatever it looks like. */
function ownNames({ address, internalAddress, hostname }: CertifiedNode): AltNames {
  const isMore = (name: string) => name !== '' && name !== address;
  return together([
    altNames([address, ...[internalAddress].filter(isMore)]),
    { dns: [hostname].filter(isMore), ip: [] },
  ]);
}

const together = (all: readonly AltNames[]): AltNames => ({
  dns: all.flatMap(({ dns }) => dns),
  ip: all.flatMap(({ ip }) => ip),
});

function altNames(names: readonly string[]): AltNames {
  for (const name of names) {
    if (/^[\x21-\x7e]+$/.test(name)) continue;
    throw new TsrkeError('CONFIG_INVALID', `a certificate cannot hold the name \`${name}\``, {
      next: 'see `authentication.sans` and the nodes of cluster.yml; write names with other letters as `xn--…`',
    });
  }
  return {
    dns: names.filter((name) => isIP(name) === 0),
    ip: names.filter((name) => isIP(name) !== 0).map((address) => ipText(ipBytes(address))),
  };
}

/** `10.43.0.1` of `10.43.0.0/16`: the address of Service `kubernetes`. */
function firstOf(range: string): string {
  const [base = '', length = ''] = range.trim().split('/');
  const bytes = isIP(base) === 0 ? 0 : isIPv4(base) ? 32 : 128;
  if (!/^\d{1,3}$/.test(length) || Number(length) > bytes) {
    throw new TsrkeError(
      'CONFIG_INVALID',
      `service_cluster_ip_range: \`${range}\` is not a range of addresses`,
      {
        next: 'write it as in `10.43.0.0/16`, two of them with a comma between',
      },
    );
  }
  const width = BigInt(bytes - Number(length));
  const masked = (BigInt(`0x${ipBytes(base).toString('hex')}`) >> width) << width;
  return ipText(
    Buffer.from(
      (masked + 1n)
        .toString(16)
        .padStart(bytes / 4, '0')
        .slice(-bytes / 4),
      'hex',
    ),
  );
}
