import { caPath, keyPath, kubeconfigPath } from '../certificates/paths.ts';
import { argumentsOf } from './arguments.ts';
import { cloudArguments, cloudEnv } from './cloud.ts';
import type { ServiceInput } from './cluster.ts';
import { componentContainer } from './component.ts';
import type { Container } from './container.ts';

const name = 'kube-controller-manager';

export function controllerManagerContainer(input: ServiceInput): Container {
  const { wish, options, onHost } = input;
  const service = wish.rke.services.kubeController;
  const args = argumentsOf({
    base: {
      ...cloudArguments(wish),
      'cluster-cidr': service.clusterCidr ?? '',
      kubeconfig: kubeconfigPath(name),
      'root-ca-file': caPath,
      'service-account-private-key-file': keyPath('kube-service-account-token'),
      'service-cluster-ip-range': service.serviceClusterIpRange ?? '',
    },
    options: options['kubeController'],
    computed: ({ kubeconfig = '' }) => ({
      'authentication-kubeconfig': kubeconfig,
      'authorization-kubeconfig': kubeconfig,
    }),
    service,
  });
  return componentContainer(input, {
    name,
    plane: 'controlplane',
    service,
    args,
    // RKE's one argument that stands in Cmd.
    command: wish.rke.authorization?.mode === 'rbac' ? ['--use-service-account-credentials=true'] : [],
    env: cloudEnv(wish),
    binds: [`${onHost('/etc/kubernetes')}:/etc/kubernetes`],
    health: { url: 'https://localhost:10257/healthz' },
  });
}
