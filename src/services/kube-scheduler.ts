import { kubeconfigPath } from '../certificates/paths.ts';
import { argumentsOf } from './arguments.ts';
import type { ServiceInput } from './cluster.ts';
import { componentContainer } from './component.ts';
import type { Container } from './container.ts';

const name = 'kube-scheduler';

export function schedulerContainer(input: ServiceInput): Container {
  const { wish, options, onHost } = input;
  const service = wish.rke.services.scheduler;
  const args = argumentsOf({
    base: { kubeconfig: kubeconfigPath(name) },
    options: options['scheduler'],
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
    binds: [`${onHost('/etc/kubernetes')}:/etc/kubernetes`],
    health: { url: 'https://localhost:10259/healthz' },
  });
}
