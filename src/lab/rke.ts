/** What RKE 1.6 leaves on a controlplane node, as far as anyone looks: its containers and their binds. */
import { providerFlag, providerPath } from '../encryption/world.ts';
import type { DockerEngine, HostConfig } from './docker-engine.ts';
import { isEtcdMember, type LabNode } from './surface.ts';

export function hyperkube(minor: number): string {
  return `rancher/hyperkube:v1.${minor}.4-rancher1`;
}

const etcdImage = 'rancher/mirrored-coreos-etcd:v3.5.12';
const toolsImage = 'rancher/rke-tools:v0.1.103';

export interface Deployment {
  /** kube-apiserver runs with the provider file. */
  readonly encrypted: boolean;
  /** It looks for a new file by itself. */
  readonly reload: boolean;
  readonly minor: number;
}

/** Creates and starts them at `now`. The provider file must be there already. */
export function deployRke(
  engine: DockerEngine,
  nodes: readonly LabNode[],
  deployment: Deployment,
  now: number,
): void {
  const { node } = engine.host;
  for (const image of [hyperkube(deployment.minor), etcdImage, toolsImage]) engine.addImage(image);
  const make = (name: string, definition: Parameters<DockerEngine['create']>[1]) =>
    engine.create(
      name,
      { Env: ['PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin'], ...definition },
      now,
    );
  const labels = (name: string) => ({ 'io.rancher.rke.container.name': name });
  make('service-sidekick', {
    Image: toolsImage,
    Entrypoint: ['/bin/bash'],
    Labels: labels('service-sidekick'),
    Volumes: { '/opt/rke-tools': {} },
    HostConfig: { NetworkMode: 'none', RestartPolicy: { Name: '', MaximumRetryCount: 0 } },
  });
  const hostConfig = (binds: string[]): HostConfig => ({
    Binds: binds,
    NetworkMode: 'host',
    RestartPolicy: { Name: 'always', MaximumRetryCount: 0 },
  });
  if (isEtcdMember(node)) {
    const etcd = make('etcd', {
      Image: etcdImage,
      Cmd: ['/usr/local/bin/etcd', '--data-dir=/var/lib/rancher/etcd/', `--name=etcd-${node.name}`],
      Labels: labels('etcd'),
      HostConfig: hostConfig(['/var/lib/etcd:/var/lib/rancher/etcd/', '/etc/kubernetes:/etc/kubernetes']),
    });
    engine.start(etcd, now);
  }
  const apiserver = make('kube-apiserver', {
    Image: hyperkube(deployment.minor),
    Entrypoint: ['/opt/rke-tools/entrypoint.sh', 'kube-apiserver', ...argumentsFor(node, nodes, deployment)],
    Labels: labels('kube-apiserver'),
    HostConfig: {
      ...hostConfig(['/etc/kubernetes:/etc/kubernetes', '/var/log/kube-audit:/var/log/kube-audit']),
      VolumesFrom: ['service-sidekick'],
    },
  });
  engine.start(apiserver, now);
}

function argumentsFor(
  node: LabNode,
  nodes: readonly LabNode[],
  { encrypted, reload }: Deployment,
): readonly string[] {
  const members = nodes.filter(isEtcdMember);
  return [
    '--authorization-mode=Node,RBAC',
    '--tls-cert-file=/etc/kubernetes/ssl/kube-apiserver.pem',
    '--anonymous-auth=false',
    '--storage-backend=etcd3',
    `--advertise-address=${node.address}`,
    '--service-cluster-ip-range=10.43.0.0/16',
    '--bind-address=0.0.0.0',
    `--etcd-servers=${members.map(({ address }) => `https://${address}:2379`).join(',')}`,
    '--etcd-cafile=/etc/kubernetes/ssl/kube-ca.pem',
    '--etcd-certfile=/etc/kubernetes/ssl/kube-node.pem',
    '--etcd-keyfile=/etc/kubernetes/ssl/kube-node-key.pem',
    '--etcd-prefix=/registry',
    ...(encrypted ? [`${providerFlag}=${providerPath}`] : []),
    ...(encrypted && reload ? [`${providerFlag}-automatic-reload=true`] : []),
    '--client-ca-file=/etc/kubernetes/ssl/kube-ca.pem',
    '--secure-port=6443',
  ];
}
