/** A container that a node should run, as data: what RKE would create for the same cluster.yml. */

/** RKE's names, in the order in which a node starts them. */
export const serviceNames = [
  'etcd',
  'etcd-rolling-snapshots',
  'nginx-proxy',
  'service-sidekick',
  'kube-apiserver',
  'kube-controller-manager',
  'kube-scheduler',
  'kubelet',
  'kube-proxy',
] as const;

export type ServiceName = (typeof serviceNames)[number];

/** Planes follow each other over the whole cluster: all of etcd is there before any kube-apiserver starts. */
export type Plane = 'etcd' | 'controlplane' | 'worker';

/** Asked on the node itself, or at the address in it; the server's certificate is not checked, as it names others. */
export interface HealthCheck {
  readonly url: string;
  /** Name of the certificate that the client shows (as in RKE's bundle). */
  readonly certificate?: string;
}

export interface Container {
  readonly name: ServiceName;
  readonly plane: Plane;
  readonly image: string;
  /** Undefined: the image's own. */
  readonly entrypoint?: readonly string[];
  /** Docker's Cmd, which follows the entrypoint; undefined: none. */
  readonly command?: readonly string[];
  /** NAME=value; the image's own come on top. May hold credentials (of registries, of S3). */
  readonly env: readonly string[];
  /** `/host/folder:/folder`, with options as the third part. */
  readonly binds: readonly string[];
  readonly volumesFrom: readonly string[];
  /** `<uid>:<gid>`; undefined: the image's. */
  readonly user?: string;
  readonly network: 'host' | 'none';
  /** Shares the host's process numbers. */
  readonly hostPid: boolean;
  readonly privileged: boolean;
  readonly securityOptions: readonly string[];
  readonly labels: Readonly<Record<string, string>>;
  /** Undefined: it is created and never started; others take its volume. Else Docker's restart policy. */
  readonly restart: 'always' | undefined;
  readonly health?: HealthCheck;
}

/** What Docker's `POST /containers/create` takes. */
export function definitionOf(container: Container): Readonly<Record<string, unknown>> {
  const { entrypoint, command, user, restart } = container;
  return {
    Image: container.image,
    ...(entrypoint !== undefined && { Entrypoint: entrypoint }),
    ...(command !== undefined && { Cmd: command }),
    ...(user !== undefined && { User: user }),
    Env: container.env,
    Labels: container.labels,
    HostConfig: {
      Binds: container.binds,
      VolumesFrom: container.volumesFrom,
      NetworkMode: container.network,
      ...(container.hostPid && { PidMode: 'host' }),
      Privileged: container.privileged,
      SecurityOpt: container.securityOptions,
      ...(restart !== undefined && { RestartPolicy: { Name: restart } }),
    },
  };
}
