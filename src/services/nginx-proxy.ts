import { imageOf, nodesWith } from './cluster.ts';
import type { ServiceInput } from './cluster.ts';
import { labelsOf, securityOptions } from './component.ts';
import type { Container } from './container.ts';

/** On nodes without a kube-apiserver: localhost:6443 leads to those that have one. */
export function nginxProxyContainer({ host, wish }: ServiceInput): Container {
  const servers = nodesWith(wish.rke, 'controlplane').map(({ internalAddress }) => internalAddress);
  const variable = `CP_HOSTS=${servers.join()}`;
  return {
    name: 'nginx-proxy',
    plane: 'worker',
    image: imageOf(wish.rke, 'nginxProxy'),
    entrypoint: ['nginx-proxy'],
    // It takes the list from the environment; RKE has it here as well, so that another list is another command.
    command: [variable],
    env: [variable],
    binds: [],
    volumesFrom: [],
    network: 'host',
    hostPid: false,
    privileged: false,
    securityOptions: securityOptions(host.selinux, false),
    labels: labelsOf('nginx-proxy'),
    restart: 'always',
  };
}
