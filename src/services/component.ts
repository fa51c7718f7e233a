/** What the containers of Kubernetes' own components have in common. */
import type { RkeService } from '../config/rke-config.ts';
import type { Container, HealthCheck, Plane, ServiceName } from './container.ts';
import { imageOf, tagOf } from './cluster.ts';
import type { ServiceInput } from './cluster.ts';

interface Component {
  readonly name: ServiceName;
  readonly plane: Plane;
  readonly service: RkeService;
  readonly args: readonly string[];
  readonly command?: readonly string[];
  readonly env?: readonly string[];
  readonly binds?: readonly string[];
  /** Sees the host's processes and has all rights there. */
  readonly onHost?: boolean;
  readonly health: HealthCheck;
}

/** All take the entrypoint from service-sidekick's volume, and RKE puts the arguments behind it, not into Cmd. */
export function componentContainer(input: ServiceInput, component: Component): Container {
  const { wish, host } = input;
  const { name, plane, service, args, command, env = [], binds = [], onHost = false, health } = component;
  return {
    ...{ name, plane, health },
    image: imageOf(wish.rke, 'kubernetes'),
    entrypoint: [entrypoint(imageOf(wish.rke, 'kubernetesServicesSidecar')), name, ...args],
    ...(command !== undefined && { command }),
    env: unique([...env, ...(service.extraEnv ?? [])]),
    binds: unique([...binds, ...(service.extraBinds ?? [])]),
    volumesFrom: ['service-sidekick'],
    network: 'host',
    hostPid: onHost,
    privileged: onHost,
    securityOptions: onHost ? [] : securityOptions(host.selinux, true),
    labels: labelsOf(name),
    restart: 'always',
  };
}

/** RKE looks for its containers by name; log collectors look for this. */
export function labelsOf(name: ServiceName): Readonly<Record<string, string>> {
  return { 'io.rancher.rke.container.name': name };
}

/** With SELinux, containers that share service-sidekick's volume need one level, and all of them RKE's own type. */
export function securityOptions(selinux: boolean, sharesSidekick: boolean): string[] {
  if (!selinux) return [];
  return [...(sharesSidekick ? ['label=level:s0:c1000,c1001'] : []), 'label=type:rke_container_t'];
}

/** As RKE cleans its lists: no blanks around, nothing empty, nothing twice. */
export function unique(texts: readonly string[]): string[] {
  return [...new Set(texts.map((each) => each.trim()).filter((each) => each !== ''))];
}

/** rke-tools before 0.1.13 had it elsewhere. */
function entrypoint(sidecar: string): string {
  const [, major, minor, patch] = /^v?(\d+)\.(\d+)\.(\d+)/.exec(tagOf(sidecar)) ?? [];
  const old = major === '0' && (minor === '0' || (minor === '1' && Number(patch) < 13));
  return old ? '/opt/rke/entrypoint.sh' : '/opt/rke-tools/entrypoint.sh';
}
