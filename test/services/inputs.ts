/** Clusters and hosts to plan for. */
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { loadConfig } from '../../src/config/load.ts';
import type { ClusterConfig } from '../../src/config/load.ts';
import { rkeConfigOf } from '../../src/config/rke-config.ts';
import type { RkeConfig } from '../../src/config/rke-config.ts';
import type { ClusterWish, DockerHost } from '../../src/services/cluster.ts';
import type { Container, ServiceName } from '../../src/services/container.ts';
import { servicesOf } from '../../src/services/services.ts';

export const fixture = (name: string): string =>
  fileURLToPath(new URL(`../fixtures/rke-1.6.3/${name}`, import.meta.url));

/** What Docker on the hosts of the fixtures says. */
export const debian: DockerHost = {
  architecture: 'x86_64',
  rootFolder: '/var/lib/docker',
  operatingSystem: 'Debian GNU/Linux 12 (bookworm)',
  selinux: false,
};

/** The one variable that RKE's images set. */
export const pathVariable = 'PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin';

export function configOf(text: string): ClusterConfig {
  const folder = mkdtempSync(join(tmpdir(), 'tsrke-services-'));
  try {
    const path = join(folder, 'cluster.yml');
    writeFileSync(path, text);
    return loadConfig(path);
  } finally {
    rmSync(folder, { recursive: true });
  }
}

export function rkeOf(text: string): RkeConfig {
  return rkeConfigOf(configOf(text));
}

export const nodes = `nodes:
- {address: 192.0.2.1, internal_address: 10.0.0.1, hostname_override: cp-1, user: u, role: [controlplane]}
- {address: 192.0.2.2, internal_address: 10.0.0.2, hostname_override: cp-2, user: u, role: [controlplane, worker]}
- {address: 192.0.2.3, internal_address: 10.0.0.3, hostname_override: etcd-1, user: u, role: [etcd]}
- {address: 192.0.2.4, hostname_override: all-1, user: u, role: [controlplane, etcd, worker]}
- {address: 192.0.2.5, internal_address: 10.0.0.5, hostname_override: worker-1, user: u, role: [worker]}
`;

export function kubeApi(yaml: string): string {
  return `services: {kube-api: {${yaml}}}\n`;
}

export interface Planned {
  readonly more?: string;
  readonly host?: Partial<DockerHost>;
  readonly wish?: Partial<ClusterWish>;
}

/** The containers of one of `nodes`, with more of a cluster.yml. */
export function planned(node: string, { more = '', ...input }: Planned = {}): Container[] {
  return plannedIn(nodes + more, node, input);
}

/** Likewise, of a whole cluster.yml. */
export function plannedIn(text: string, node: string, { host = {}, wish = {} }: Planned = {}): Container[] {
  const rke = rkeOf(text);
  const found = rke.nodes.find((each) => each.hostnameOverride === node);
  if (found === undefined) throw new Error(`no node ${node}`);
  return servicesOf(found, { ...debian, ...host }, { rke, encrypted: false, ...wish });
}

export function only(name: ServiceName, containers: readonly Container[]): Container {
  const found = containers.find((each) => each.name === name);
  if (found === undefined) throw new Error(`no container ${name}`);
  return found;
}

/** Values of an argument, as often as it is given. */
export function valuesOf(container: Container, argument: string): string[] {
  const words = [...(container.entrypoint ?? []), ...(container.command ?? [])];
  return words
    .filter((word) => word.startsWith(`--${argument}=`))
    .map((word) => word.slice(argument.length + 3));
}

export interface Inspect {
  readonly Name: string;
  readonly State: { readonly Running: boolean };
  readonly Config: {
    readonly Image: string;
    readonly Entrypoint: string[] | null;
    readonly Cmd: string[] | null;
    readonly Env: string[];
    readonly Labels: Record<string, string>;
    readonly User: string;
  };
  readonly HostConfig: {
    readonly Binds: string[] | null;
    readonly VolumesFrom: string[] | null;
    readonly NetworkMode: string;
    readonly PidMode: string;
    readonly Privileged: boolean;
    readonly SecurityOpt: string[] | null;
    readonly RestartPolicy: { readonly Name: string };
  };
}

/** `docker inspect` of every container on a host that RKE 1.6.3 has set up. */
export function inspected(host: 'h1' | 'h2' | 'h3'): Inspect[] {
  return JSON.parse(readFileSync(fixture(`docker-inspect-${host}.json`), 'utf8')) as Inspect[];
}
