/** The nodes of a cluster as reached over SSH: files, Docker, and streams to their ports. */
import { TsrkeError } from '../errors.ts';
import { openPlugin } from '../kms/plugin.ts';
import type {
  ContainerRuntime,
  Dial,
  Health,
  HostFiles,
  KmsContainers,
  KmsPlugins,
  Markers,
  NodeFiles,
  NodeName,
  Report,
  ServiceContainers,
} from '../ports.ts';
import { abortable, DockerClients } from './docker-client.ts';
import { dockerRuntime } from './docker.ts';
import { dockerFiles } from './files.ts';
import { healthChecks } from './health.ts';
import { hostFiles } from './host-files.ts';
import type { HostKeys } from './host-keys.ts';
import type { ImageSource } from './images.ts';
import { kmsContainers } from './kms-containers.ts';
import { serviceContainers } from './service-containers.ts';
import type { SshTarget } from './ssh-auth.ts';
import { SshConnection } from './ssh-connection.ts';

export interface SshNode extends SshTarget {
  /** Docker's Unix socket on the host, e.g. `/var/run/docker.sock`. */
  readonly dockerSocket: string;
}

export interface HostsOptions {
  readonly nodes: readonly SshNode[];
  /** A host through which all nodes are reached. */
  readonly bastion?: SshTarget | undefined;
  readonly hostKeys: HostKeys;
  readonly report: Report;
  /** Where images are pulled from, and with what. */
  readonly imageSource: (image: string) => ImageSource;
  /** Milliseconds until an SSH connection must stand; default 50 000 (RKE's). */
  readonly dialTimeout?: number;
  /** Seconds that kube-apiserver gets to finish requests in flight when it is stopped; default 2. */
  readonly stopTimeout?: number;
  /** Milliseconds until a Docker call without an answer is given up; default 120 000. */
  readonly dockerTimeout?: number;
}

export interface Hosts {
  readonly files: NodeFiles;
  readonly runtime: ContainerRuntime & Markers;
  readonly dial: Dial;
  readonly plugins: KmsPlugins;
  readonly kmsContainers: KmsContainers;
  readonly services: ServiceContainers;
  readonly hostFiles: HostFiles;
  readonly health: Health;
  /** Connects now rather than at first use. Throws NODE_UNREACHABLE, SSH_KEY or HOST_KEY_CHANGED. */
  connect(node: NodeName, signal: AbortSignal): Promise<void>;
  /** Ends all connections; nothing can be reached any more. */
  close(): void;
}

/** Nothing is reached before it is needed. Nodes not in `options.nodes` are NODE_UNREACHABLE. */
export function connectHosts(options: HostsOptions): Hosts {
  const context = {
    hostKeys: options.hostKeys,
    report: options.report,
    dialTimeout: options.dialTimeout ?? 50_000,
  };
  const bastion = options.bastion === undefined ? undefined : new SshConnection(options.bastion, context);
  const hosts = new Map(
    options.nodes.map((node) => [
      node.name,
      { connection: new SshConnection(node, context, bastion), dockerSocket: node.dockerSocket },
    ]),
  );
  const clients = new DockerClients(options.report, options.dockerTimeout ?? 120_000);

  const host = (node: NodeName) => {
    const found = hosts.get(node);
    if (found !== undefined) return found;
    throw new TsrkeError('NODE_UNREACHABLE', 'this node is not in cluster.yml, so there is no way to it', {
      node,
      next: 'add it to `nodes:`, or remove what is left of it from the cluster',
    });
  };

  const docker = async (node: NodeName, signal: AbortSignal, timeout?: number) => {
    signal.throwIfAborted();
    const { connection, dockerSocket } = host(node);
    return clients.for({ name: node, dial: () => connection.openSocket(dockerSocket) }, signal, timeout);
  };
  const dial: Dial = async (node, address, port) => host(node).connection.openPort(address, port);
  const stopTimeout = options.stopTimeout ?? 2;
  const containers = { docker, stopTimeout, imageSource: options.imageSource };

  return {
    files: dockerFiles({ docker }),
    runtime: dockerRuntime({ docker, report: options.report, stopTimeout }),
    kmsContainers: kmsContainers(containers),
    services: serviceContainers(containers),
    hostFiles: hostFiles({ docker }),
    health: healthChecks({ dial }),
    dial,
    plugins: {
      plugin: (node, path, version) =>
        openPlugin({
          ...{ node, path, version },
          dial: () => host(node).connection.openSocket(path, 'the KMS plugin'),
        }),
    },
    connect: async (node, signal) => abortable(() => host(node).connection.connect(), signal),
    close() {
      for (const { connection } of hosts.values()) connection.close();
      bastion?.close();
    },
  };
}
