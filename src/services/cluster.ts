/** What the containers of a node follow from, besides the node itself. */
import { posix } from 'node:path';
import { socketBinds } from '../config/kms-plugins.ts';
import type { ClusterConfig } from '../config/load.ts';
import { rkeConfigOf } from '../config/rke-config.ts';
import type { RkeConfig, RkeNode } from '../config/rke-config.ts';
import { kubernetesVersion, serviceOptions } from '../config/versions.ts';
import type { KubernetesVersion } from '../config/versions.ts';
import { TsrkeError } from '../errors.ts';

export interface ClusterWish {
  readonly rke: RkeConfig;
  /** Whether kube-apiserver runs with a provider file. */
  readonly encrypted: boolean;
  /** The folders of the sockets of KMS plugins: further mounts of kube-apiserver. */
  readonly socketBinds?: readonly string[];
  /** Addresses of nodes whose etcd joins a cluster that is there already. */
  readonly joining?: ReadonlySet<string>;
  /** The members that one of them finds there (`MembershipChange`): etcd does not join with any other list. */
  readonly initialCluster?: readonly string[];
  /** Text of /etc/kubernetes/cloud-config where cluster.yml does not spell it out (`customCloudProvider`). */
  readonly cloudConfig?: string;
}

/** What cluster.yml asks for. */
export function wishOf(config: ClusterConfig, encrypted: boolean): ClusterWish {
  const rke = rkeConfigOf(config);
  return {
    rke,
    encrypted,
    socketBinds: socketBinds(config.kmsPlugins, rke.services.kubeApi.extraBinds ?? []),
  };
}

/** Of `docker info`, what containers depend on. */
export interface DockerHost {
  /** As Docker says it: `x86_64`, `aarch64`. */
  readonly architecture: string;
  /** Docker's own folder, e.g. `/var/lib/docker`. */
  readonly rootFolder: string;
  readonly operatingSystem: string;
  readonly selinux: boolean;
}

export interface DockerInfo {
  readonly Architecture: string;
  readonly DockerRootDir: string;
  readonly OperatingSystem: string;
  readonly OSType: string;
  readonly SecurityOptions?: readonly string[] | null;
}

/** Throws UNSUPPORTED for a host with Windows. */
export function dockerHostOf(info: DockerInfo, node: string): DockerHost {
  if (info.OSType === 'windows') {
    throw new TsrkeError('UNSUPPORTED', 'the host runs Windows, which tsrke does not provision', {
      node,
      next: 'take it out of the nodes in cluster.yml',
    });
  }
  return {
    architecture: info.Architecture,
    rootFolder: info.DockerRootDir,
    operatingSystem: info.OperatingSystem,
    selinux: (info.SecurityOptions ?? []).some((each) => /^(name=)?selinux(,|$)/.test(each)),
  };
}

/** All that one service's container is made from. */
export interface ServiceInput {
  readonly node: RkeNode;
  readonly host: DockerHost;
  readonly wish: ClusterWish;
  readonly version: KubernetesVersion;
  /** RKE's own arguments of this version, by service. */
  readonly options: NonNullable<ReturnType<typeof serviceOptions>>;
  /** Where a path of RKE's lies on this host. */
  readonly onHost: (path: string) => string;
}

/** Throws UNSUPPORTED for a version whose arguments are not known. */
export function serviceInput(node: RkeNode, host: DockerHost, wish: ClusterWish): ServiceInput {
  const { rke } = wish;
  const version = kubernetesVersion(rke.kubernetesVersion);
  // An image of one's own decides which server it is, whatever kubernetes_version says.
  const image = kubernetesVersion(tagOf(rke.systemImages['kubernetes'] ?? ''));
  const options = version && serviceOptions(image ?? version);
  if (version === undefined || options === undefined) {
    throw new TsrkeError(
      'UNSUPPORTED',
      `which arguments RKE gives to the services of ${(image ?? version)?.version ?? rke.kubernetesVersion} is not known`,
      { next: 'take a version that `tsrke config --list-version --all` prints' },
    );
  }
  const prefix = prefixOn(host, rke.prefixPath);
  return { node, host, wish, version, options, onHost: (path) => posix.join(prefix, path) };
}

/** `v1.30.5-rancher1` of `registry:5000/rancher/hyperkube:v1.30.5-rancher1`. */
export function tagOf(image: string): string {
  return /:([^:/@]+)(@.*)?$/.exec(image)?.[1] ?? '';
}

/** Throws UNSUPPORTED where neither the catalogue nor cluster.yml names it. `key` as in the state: `nginxProxy`. */
export function imageOf(rke: RkeConfig, key: string): string {
  const image = rke.systemImages[key];
  if (image !== undefined && image !== '') return image;
  const name = key.replace(/[A-Z]/g, (letter) => `_${letter.toLowerCase()}`);
  throw new TsrkeError('UNSUPPORTED', `no image is known for ${name} of ${rke.kubernetesVersion}`, {
    next: `name it in cluster.yml as \`system_images.${name}\``,
  });
}

export function nodesWith(rke: RkeConfig, role: 'etcd' | 'controlplane' | 'worker'): RkeNode[] {
  return rke.nodes.filter((node) => node.role.includes(role));
}

/** Systems whose root cannot be written to. */
const prefixes: readonly (readonly [system: string, prefix: string])[] = [
  ['Boot2Docker', '/mnt/sda1/rke'],
  ['RancherOS', '/opt/rke'],
  ['CoreOS', '/opt/rke'],
  ['Flatcar', '/opt/rke'],
];

/** What stands in front of RKE's paths on this host. */
export function prefixOn(host: DockerHost, prefixPath: string): string {
  if (prefixPath !== '/') return prefixPath;
  return prefixes.find(([system]) => host.operatingSystem.includes(system))?.[1] ?? '/';
}
