/** What runs in a container, told by its command: a model of it, or a stand-in that only answers its health check. */
import type { ServiceName } from '../services/container.ts';
import type { Container, Process } from './docker-engine.ts';

/** The service whose program a container starts; undefined: it is none of RKE's. */
export function serviceIn({ config: { Entrypoint, Cmd } }: Container): ServiceName | undefined {
  const [first = '', second = ''] = [...(Entrypoint ?? []), ...(Cmd ?? [])];
  if (first.endsWith('/etcd')) return 'etcd';
  if (first.endsWith('/rke-etcd-backup')) return 'etcd-rolling-snapshots';
  if (first === 'nginx-proxy') return first;
  const component = first.endsWith('/entrypoint.sh') ? second : first;
  return components.find((each) => each === component);
}

const components: readonly ServiceName[] = [
  'kube-apiserver',
  'kube-controller-manager',
  'kube-scheduler',
  'kubelet',
  'kube-proxy',
];

/** All words behind the program's name. */
export function argumentsOf({ config: { Entrypoint, Cmd } }: Container): string[] {
  const words = [...(Entrypoint ?? []), ...(Cmd ?? [])];
  const first = words.findIndex((word) => word.startsWith('--'));
  return first === -1 ? [] : words.slice(first);
}

/** Runs until it is stopped, and is well. */
export class StandIn implements Process {
  readonly ends = undefined;
  readonly service: ServiceName;
  /** nginx-proxy's: addresses of kube-apiservers. */
  readonly upstream: readonly string[];

  constructor(service: ServiceName, env: readonly string[]) {
    this.service = service;
    const variable = 'CP_HOSTS=';
    const hosts = env.find((each) => each.startsWith(variable))?.slice(variable.length) ?? '';
    this.upstream = hosts.split(',').filter((each) => each !== '');
  }

  advance(): void {
    // Nothing that anybody would notice.
  }
}

/** Where services say that they are well: a port, whether it speaks TLS, whether it is there for the host alone. */
export const healthPorts: ReadonlyMap<number, { readonly service: ServiceName; readonly tls: boolean }> =
  new Map([
    [10_248, { service: 'kubelet', tls: false }],
    [10_256, { service: 'kube-proxy', tls: false }],
    [10_257, { service: 'kube-controller-manager', tls: true }],
    [10_259, { service: 'kube-scheduler', tls: true }],
  ]);
