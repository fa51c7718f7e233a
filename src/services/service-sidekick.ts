import { imageOf } from './cluster.ts';
import type { ServiceInput } from './cluster.ts';
import { labelsOf, securityOptions } from './component.ts';
import type { Container, Plane } from './container.ts';

/** Never runs: its image's volume /opt/rke-tools holds the entrypoint of the other containers. */
export function sidekickContainer({ node, host, wish }: ServiceInput): Container {
  const plane: Plane = node.role.includes('controlplane') ? 'controlplane' : 'worker';
  return {
    name: 'service-sidekick',
    plane,
    image: imageOf(wish.rke, 'kubernetesServicesSidecar'),
    entrypoint: ['/bin/bash'],
    env: [],
    binds: [],
    volumesFrom: [],
    network: 'none',
    hostPid: false,
    privileged: false,
    securityOptions: securityOptions(host.selinux, true),
    labels: labelsOf('service-sidekick'),
    restart: undefined,
  };
}
