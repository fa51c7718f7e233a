import { kubeconfigPath } from '../certificates/paths.ts';
import { argumentsOf } from './arguments.ts';
import { cloudNameOf, namedByCloud } from './cloud.ts';
import type { ServiceInput } from './cluster.ts';
import { componentContainer } from './component.ts';
import type { Container } from './container.ts';

const name = 'kube-proxy';

export function proxyContainer(input: ServiceInput): Container {
  const { node, wish, options, onHost } = input;
  const { kubeproxy: service, kubeController } = wish.rke.services;
  const args = argumentsOf({
    base: {
      'cluster-cidr': kubeController.clusterCidr ?? '',
      ...(!namedByCloud(wish, ['aws', 'external-aws']) && { 'hostname-override': node.hostnameOverride }),
      kubeconfig: kubeconfigPath(name),
    },
    options: options['kubeproxy'],
    // A cloud may give the Node object another name: then kube-proxy cannot look up its own address.
    computed: (): Readonly<Record<string, string>> =>
      cloudNameOf(wish) === undefined ? {} : { 'bind-address': node.internalAddress },
    service,
  });
  return componentContainer(input, {
    name,
    plane: 'worker',
    service,
    args,
    binds: [`${onHost('/etc/kubernetes')}:/etc/kubernetes`, '/run:/run', '/lib/modules:/lib/modules:ro'],
    onHost: true,
    health: { url: 'http://localhost:10256/healthz' },
  });
}
